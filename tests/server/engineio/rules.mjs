// The rules of the protocol's test suite, checked with fetch and ws against the server of docs/engineio.md:
// node rules.mjs NODE_MODULES URL. Writes {rule: whether it holds} as JSON. The server pings every 300 ms and waits 200 ms.
import { createRequire } from 'node:module';
import path from 'node:path';

const { WebSocket } = createRequire(path.resolve(process.argv[2]) + '/')('ws');
const http = process.argv[3] + '/engine.io/', ws = http.replace('http', 'ws');
const POLLING = '?EIO=4&transport=polling', WEBSOCKET = '?EIO=4&transport=websocket';
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
const get = (query, options) => fetch(http + query, options);
const post = (query, body) => fetch(http + query, { method: 'POST', body });
const open = async () => `${POLLING}&sid=${JSON.parse((await (await get(POLLING)).text()).slice(1)).sid}`;

class Socket {
  constructor(query) {
    this.socket = new WebSocket(ws + query);
    this.messages = []; this.waiting = [];
    this.socket.on('message', (data, binary) => {
      const message = binary ? [...data] : data.toString();
      this.waiting.length ? this.waiting.shift()(message) : this.messages.push(message);
    });
    this.socket.on('error', () => {});
    this.closed = new Promise(resolve => this.socket.on('close', () => resolve(true)));
    this.opened = new Promise(resolve => this.socket.on('open', () => resolve(true)));
  }
  next() { return this.messages.length ? this.messages.shift() : new Promise(resolve => this.waiting.push(resolve)); }
  send(...messages) { for (const each of messages) this.socket.send(each); }
}
const upgraded = async sid => {
  const socket = new Socket(`${WEBSOCKET}&${sid.split('&').at(-1)}`);
  await socket.opened;
  socket.send('2probe');
  return await socket.next() === '3probe' ? socket : null;
};

const RULES = {
  'bad handshakes over HTTP': async () => {
    const answers = await Promise.all([
      get('?transport=polling'), get('?EIO=abc&transport=polling'), get('?EIO=4'), get('?EIO=4&transport=abc'), post(POLLING),
      get(POLLING, { method: 'PUT' }),
    ]);
    return answers.every(answer => answer.status === 400);
  },
  'bad handshakes over WebSocket': async () => {
    const queries = ['?transport=websocket', '?EIO=abc&transport=websocket', '?EIO=4', '?EIO=4&transport=abc'];
    return (await Promise.all(queries.map(query => new Socket(query).closed))).every(Boolean);
  },
  'payloads of text and binary packets': async () => {
    for (const body of ['4hello', '4test1\x1e4test2\x1e4test3', '4hello\x1ebAQIDBA==']) {
      const session = await open();
      if (await (await post(session, body)).text() !== 'ok' || await (await get(session)).text() !== body) return false;
    }
    return true;
  },
  'a wrong payload ends the session': async () => {
    const session = await open();
    return (await post(session, 'abc')).status === 400 && (await get(session)).status === 400;
  },
  'a second poll ends the session': async () => {
    const session = await open();
    const [first, second] = await Promise.all([get(session), sleep(5).then(() => get(session + '&t=burst'))]);
    return await first.text() === '1' && second.status === 400 && (await get(session)).status === 400;
  },
  'a cancelled poll ends the session': async () => {
    const session = await open(), controller = new AbortController();
    get(session, { signal: controller.signal }).catch(() => {});
    await sleep(5);
    controller.abort();
    return (await get(session)).status === 400;
  },
  'messages over WebSocket': async () => {
    const socket = new Socket(WEBSOCKET);
    await socket.next();
    socket.send('4hello', Uint8Array.from([1, 2, 3, 4]));
    return await socket.next() === '4hello' && String(await socket.next()) === '1,2,3,4';
  },
  'a wrong packet closes the WebSocket': async () => {
    const socket = new Socket(WEBSOCKET);
    await socket.next();
    socket.send('abc');
    return socket.closed;
  },
  'heartbeat while polling': async () => {
    const session = await open();
    for (let i = 0; i < 3; i++) {
      if (await (await get(session)).text() !== '2' || (await post(session, '3')).status !== 200) return false;
    }
    return true;
  },
  'a silent polling client is gone at its deadline': async () => {
    const session = await open();
    await sleep(500);
    return (await get(session)).status === 400;
  },
  'heartbeat over WebSocket': async () => {
    const socket = new Socket(WEBSOCKET);
    await socket.next();
    for (let i = 0; i < 3; i++) {
      if (await socket.next() !== '2') return false;
      socket.send('3');
    }
    return true;
  },
  'a silent WebSocket is closed at its deadline': async () => {
    const started = Date.now();
    await new Socket(WEBSOCKET).closed;
    return Date.now() - started >= 490;
  },
  'a posted close ends the open poll with a noop': async () => {
    const session = await open();
    const [poll] = await Promise.all([get(session), post(session, '1')]);
    return await poll.text() === '6' && (await get(session)).status === 400;
  },
  'a close packet closes the WebSocket': async () => {
    const socket = new Socket(WEBSOCKET);
    await socket.next();
    socket.send('1');
    return socket.closed;
  },
  'an upgrade': async () => {
    const session = await open(), socket = await upgraded(session);
    if (await (await get(session)).text() !== '6') return false;
    socket.send('5', '4hello');
    return await socket.next() === '4hello';
  },
  'polls after an upgrade are refused': async () => {
    const session = await open(), socket = await upgraded(session);
    socket.send('5');
    if ((await get(session)).status !== 400) return false;
    socket.send('4hello');
    return await socket.next() === '4hello';
  },
  'a second WebSocket after an upgrade is accepted and closed': async () => {
    const session = await open(), socket = await upgraded(session);
    socket.send('5');
    const second = new Socket(`${WEBSOCKET}&${session.split('&').at(-1)}`);
    if (!await second.opened || !await second.closed) return false;
    socket.send('4hello');
    return await socket.next() === '4hello';
  },
};

const held = {};
for (const [name, rule] of Object.entries(RULES)) {
  held[name] = Boolean(await Promise.race([rule().catch(error => { console.error(name, error); return false; }), sleep(5000).then(() => false)]));
}
console.log(JSON.stringify(held));
process.exit(0);
