// A socket.io-client that is cut off again and again while somebody else talks: node recovery.mjs NODE_MODULES URL CUTS
// Writes what happened as JSON.
import { createRequire } from 'node:module';
import path from 'node:path';

const { io } = createRequire(path.resolve(process.argv[2]) + '/')('socket.io-client');
const [, , , url, cuts] = process.argv;
const listen = transports => io(url, { transports, forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 60 });
const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
const listeners = [['websocket'], ['polling', 'websocket'], ['polling']].map(transports => {
  const socket = listen(transports);
  const heard = [], recovered = [], ids = new Set();
  socket.on('connect', () => { recovered.push(socket.recovered); ids.add(socket.id); });
  socket.on('receiveMessage', message => heard.push(message.seq));
  return { socket, heard, recovered, ids };
});
await Promise.all(listeners.map(each => each.socket.emitWithAck('joinRoom', { roomId: 'red' })));
const talker = listen(['websocket']);
await talker.emitWithAck('joinRoom', { roomId: 'red' });
let talking = true, sent = 0;
const talk = (async () => {
  while (talking) {
    const answer = await talker.emitWithAck('sendMessage', { roomId: 'red', content: String(sent) });
    if (answer.ok) sent = answer.seq ?? answer.message?.seq ?? sent + 1;
    await pause(3);
  }
})();
for (let i = 0; i < Number(cuts); i++) {
  await pause(120);
  for (const { socket } of listeners) {
    const transport = socket.io.engine?.transport;
    if (transport?.ws) transport.ws.terminate?.(); else socket.io.engine?.close();
  }
}
talking = false;
await talk;
for (const each of listeners) while (each.heard.at(-1) !== sent) await pause(20);
console.log(JSON.stringify(listeners.map(({ heard, recovered, ids }) => ({
  first: recovered[0], others: recovered.slice(1).every(Boolean), connects: recovered.length, ids: ids.size,
  inOrder: heard.every((seq, i) => seq === i + 1), complete: heard.length === sent,
}))));
process.exit(0);
