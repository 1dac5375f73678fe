"""What an operator sees: numbers for Prometheus, and spans and faults for those who collect these elsewhere.

Theory of operation. The parts of the server count in plain integers where something happens, and know nothing of this
package. `readings` reads all of them when somebody asks. A worker that is asked asks its neighbours for theirs
(`scrape`), marks each with its worker, and `exposition` writes them in Prometheus' format.
"""
