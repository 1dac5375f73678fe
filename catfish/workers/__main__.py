"""The program that the parent starts as each worker; people use `catfish serve`."""

import sys

from catfish.workers.child import main

sys.exit(main())
