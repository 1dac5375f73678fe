// Clients of socket.io-client that ask "ping" while they move from polling to a WebSocket. Each asks
// with a number, and hears it again; prints for each how its answers came, and what it talks over in the end.
//   node clients.mjs NODE_MODULES URL CLIENTS COUNT
import { createRequire } from "node:module";

const [modules, url, clients, count] = process.argv.slice(2);
const { io } = createRequire(`${modules}/`)("socket.io-client");

function talk() {
  return new Promise((resolve) => {
    const socket = io(url, { forceNew: true, reconnection: false });
    const answers = [];
    const problems = [];
    let asked = 0;
    const timer = setInterval(() => {
      if (asked < Number(count)) {
        const number = asked++;
        socket.emit("ping", number, (answer) => {
          answers.push(answer);
          if (answers.length === Number(count)) end();
        });
      }
    }, 1);
    const patience = setTimeout(() => { problems.push("too slow"); end(); }, 60_000);
    socket.on("connect_error", (error) => { problems.push(String(error)); end(); });
    socket.on("disconnect", (reason) => { problems.push(reason); end(); });
    function end() {
      clearInterval(timer);
      clearTimeout(patience);
      const transport = socket.io.engine?.transport.name;
      socket.off("disconnect");
      socket.disconnect();
      resolve({ answers, problems, transport });
    }
  });
}

console.log(JSON.stringify(await Promise.all(Array.from({ length: Number(clients) }, talk))));
process.exit(0);
