// Uses the server of docs/socketio.md as browsers would: node client.mjs NODE_MODULES URL one|crowd
// Writes what happened as JSON.
import { createRequire } from 'node:module';
import path from 'node:path';

const { io } = createRequire(path.resolve(process.argv[2]) + '/')('socket.io-client');
const url = process.argv[3];
const once = (socket, event) => new Promise((resolve, reject) => {
  socket.once(event, (...args) => resolve(args));
  socket.once('disconnect', (reason, details) => reject(new Error(`${reason} ${details?.description ?? ''}`)));
  if (event !== 'connect_error') socket.once('connect_error', error => reject(new Error(`${error} ${error.description ?? ''}`)));
});
const hex = value => Buffer.from(value).toString('hex');
// One client after the other, on each transport.
async function one() {
  const found = {};
  for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']]) {
    const socket = io(url, { transports, auth: { token: '123' }, reconnection: false, forceNew: true });
    const heard = [];
    socket.on('message-back', (...args) => heard.push(args));
    const [auth] = await once(socket, 'auth');
    for (let i = 0; i < 200; i++) {
      socket.emit('message', i);
      if (i % 20 === 0) await new Promise(resolve => setTimeout(resolve, 2));
    }
    const ack = await socket.emitWithAck('message-with-ack', { text: 'é😀' });
    const binary = await socket.emitWithAck('message-with-ack', { a: [Buffer.from([1, 2, 3])] });
    const half = await socket.emitWithAck('message-with-ack', '\ud83d');
    const custom = io(url + '/custom', { transports, auth: { other: 1 }, reconnection: false });
    const [customAuth] = await once(custom, 'auth');
    const unknown = io(url + '/unknown', { transports, reconnection: false });
    const [error] = await once(unknown, 'connect_error');
    const transport = socket.io.engine.transport.name;
    await new Promise(resolve => setTimeout(resolve, 700)); // two heartbeats
    const alive = socket.connected && custom.connected;
    custom.disconnect();
    socket.emit('message', 'last');
    await once(socket, 'message-back');
    socket.disconnect();
    unknown.io.engine?.close();
    found[transports.join('+')] = {
      auth, ack, binary: hex(binary.a[0]), half, customAuth, error: error.message, transport, alive,
      inOrder: heard.slice(0, 200).every(([n], i) => n === i), count: heard.length, last: heard.at(-1)[0],
    };
  }
  return found;
}

// Many clients that talk while they move from polling to WebSocket.
async function crowd() {
  const clients = await Promise.all(Array.from({ length: 200 }, async (_, c) => {
    const socket = io(url, { reconnection: false, forceNew: true });
    const heard = [];
    socket.on('message-back', n => heard.push(n));
    await once(socket, 'connect');
    for (let i = 0; i < 50; i++) {
      socket.emit('message', i);
      await new Promise(resolve => setTimeout(resolve, (c * 7 + i * 13) % 9));
    }
    await socket.emitWithAck('message-with-ack');
    const transport = socket.io.engine.transport.name;
    socket.disconnect();
    return { transport, right: heard.length === 50 && heard.every((n, i) => n === i) };
  }));
  return { right: clients.filter(c => c.right).length, upgraded: clients.filter(c => c.transport === 'websocket').length };
}

console.log(JSON.stringify(await { one, crowd }[process.argv[4]]()));
process.exit(0);
