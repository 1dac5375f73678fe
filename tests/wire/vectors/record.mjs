// Records what the reference parsers make of packets, so that the tests need no Node:
//
//   npm install socket.io-parser engine.io-parser socket.io-msgpack-parser     (in a folder of your own)
//   node record.mjs THAT_FOLDER/ > reference.json
//
// Bytes are written as {"$hex": "…"}. A message that the parser refuses has `error` in place of `packet`.
import { createRequire } from 'node:module';
import path from 'node:path';

const require = createRequire(path.resolve(process.argv[2]) + '/');
const sio = require('socket.io-parser'), eio = require('engine.io-parser'), msgpack = require('socket.io-msgpack-parser');
const hex = buffer => ({ $hex: Buffer.from(buffer).toString('hex') });
const plain = value => Buffer.isBuffer(value) ? hex(value) : Array.isArray(value) ? value.map(plain)
  : value && typeof value === 'object' ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)])) : value;
const bytes = (...values) => Buffer.from(values);

const PACKETS = [
  { type: 0, nsp: '/' }, { type: 0, nsp: '/admin' }, { type: 0, nsp: '/', data: { token: '123' } },
  { type: 0, nsp: '/admin', data: { sid: 'abc', pid: 'def' } },
  { type: 1, nsp: '/' }, { type: 1, nsp: '/admin' },
  { type: 4, nsp: '/x', data: { message: 'Invalid namespace' } }, { type: 4, nsp: '/', data: { message: 'no', data: { code: 1 } } },
  { type: 2, nsp: '/', data: ['foo'] }, { type: 2, nsp: '/', data: ['foo', 1, '2', { 3: [true, null] }] },
  { type: 2, nsp: '/admin', data: ['bar', 'ünï ☃ 😀 \u2028 \u001e " \\ / \n \u007f'] },
  { type: 2, nsp: '/', data: ['foo'], id: 0 }, { type: 2, nsp: '/', data: ['foo'], id: 12 },
  { type: 2, nsp: '/admin', data: ['foo', {}], id: 13 }, { type: 2, nsp: '/', data: ['z', { b: 1, a: 2, __proto_: 3 }] },
  { type: 2, nsp: '/', data: ['offset', { a: 1 }, 'r1:17'] },
  { type: 3, nsp: '/', data: [], id: 12 }, { type: 3, nsp: '/admin', data: ['bar', null], id: 13 },
  { type: 2, nsp: '/', data: ['baz', bytes(1, 2, 3, 4)] },
  { type: 2, nsp: '/admin', data: ['baz', bytes(1, 2), { deep: [bytes(3, 4), 'x'] }] },
  { type: 2, nsp: '/', data: ['same', bytes(255), bytes(255)], id: 14 },
  { type: 3, nsp: '/', data: [bytes()], id: 15 }, { type: 3, nsp: '/admin', data: [{ a: bytes(9) }, 1], id: 789 },
];

const MESSAGES = [
  ['0'], ['0/admin'], ['0/admin,'], ['0/admin,{"token":"x"}'], ['0{"token":"x"}'], ['0{}'], ['0[]'], ['0null'], ['0"x"'], ['0{'], ['07'],
  ['1'], ['1/admin,'], ['1/admin'], ['1{}'], ['1null'], ['17'],
  ['2["a"]'], ['2["a",1]'], ['20["a"]'], ['2007["a"]'], ['212["a"]'], ['2/admin,["a"]'], ['2/admin,12["a"]'],
  ['2[1,2]'], ['2[]'], ['2{}'], ['2"a"'], ['2[null]'], ['2[true]'], ['2[{}]'], ['2[["a"]]'], ['2["a"'], ['2["a"]x'], ['2abc["a"]'], ['21abc["a"]'],
  ['2["connect"]'], ['2["connect_error"]'], ['2["disconnect"]'], ['2["disconnecting"]'], ['2["newListener"]'], ['2["removeListener"]'],
  ['2["Connect"]'], ['2["connection"]'], ['2["error"]'], ['2["__proto__"]'], ['2["a",{"__proto__":{"x":1}}]'],
  ['2["a",{"_placeholder":true,"num":0}]'], ['2["a","\\ud83d\\ude00"]'], ['2["a",NaN]'], ["2['a']"], ['21-["a"]'], ['2-1["a"]'], ['21.5["a"]'],
  ['3[]'], ['312[]'], ['3/admin,12["a",null]'], ['312{}'], ['312null'], ['312"x"'],
  ['4{"message":"x"}'], ['4"x"'], ['4/x,{"message":"x"}'], ['4[]'], ['4null'],
  ['51-["a",{"_placeholder":true,"num":0}]', bytes(1, 2)], ['52-/admin,7["a",{"_placeholder":true,"num":1},{"b":[{"_placeholder":true,"num":0}]}]', bytes(1), bytes(2)],
  ['61-12[{"_placeholder":true,"num":0}]', bytes(3)], ['6[]'], ['5["a"]'], ['5-["a"]'], ['50-["a"]'], ['5a-["a"]'], ['5-1-["a"]'], ['51.5-["a"]'], ['511-["a"]'], ['599999999999-["a"]'], ['51["a"]'],
  ['51-["a",{"_placeholder":true,"num":1}]', bytes(1)], ['51-["a",{"_placeholder":true,"num":-1}]', bytes(1)], ['51-["a",{"_placeholder":true,"num":"0"}]', bytes(1)],
  ['51-["a",{"_placeholder":true,"num":true}]', bytes(1)], ['51-["a",{"_placeholder":true,"num":"splice"}]', bytes(1)], ['51-["a",{"_placeholder":true}]', bytes(1)],
  ['51-["a",{"_placeholder":1,"num":5}]', bytes(1)], ['51-["a"]', bytes(1)], ['51-["connect"]', bytes(1)], ['51-{}', bytes(1)], ['510-["a"]', ...Array.from({ length: 10 }, (_, i) => bytes(i))],
  ['52-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', bytes(1), '2["b"]'], [bytes(1)], ['2["a"]', bytes(1)],
  ['7'], ['9["a"]'], ['a'], ['abc'], ['{'], ['"2["'],
];

const TEXTS = ['0{"sid":"x"}', '1', '2', '2probe', '3', '3probe', '4', '4hello', '4hel\u00e9\u20ac\ud83d\ude00', '5', '6', 'bAQIDBA==', 'b', '', '7', 'a', 'abc', '9x', ' 4'];
const PAYLOADS = ['4hello', '4a\x1e2\x1ebAQID\x1e4b', '6', '', '4a\x1e', '\x1e4a', '4a\x1ex\x1e4b'];

const first = call => { let found; call(p => { found = p; }); return found; };
const attempt = call => { try { return { packet: plain(call()) }; } catch (error) { return { error: error.message }; } };
const decode = (parser, messages) => attempt(() => {
  const decoder = new parser.Decoder(), packets = [];
  decoder.on('decoded', p => packets.push(p));
  for (const m of messages) decoder.add(m);
  return packets.at(-1) ?? null;
});

const PACKED = PACKETS.map(p => new msgpack.Encoder().encode({ type: p.type, data: p.data, options: { compress: true }, ...(p.id === undefined ? {} : { id: p.id }), nsp: p.nsp })[0]);

console.log(JSON.stringify({
  versions: Object.fromEntries(['socket.io-parser', 'engine.io-parser', 'socket.io-msgpack-parser'].map(n => [n, require(path.resolve(process.argv[2], 'node_modules', n, 'package.json')).version])),
  socketio: {
    encode: PACKETS.map(p => ({ packet: plain(p), messages: new sio.Encoder().encode({ ...p }).map(plain) })),
    decode: MESSAGES.map(messages => ({ messages: plain(messages), ...decode(sio, messages) })),
  },
  msgpack: {
    decode: PACKED.map((message, i) => ({ message: hex(message), packet: plain(PACKETS[i]), accepted: !decode(msgpack, [message]).error })),
  },
  engineio: {
    packets: TEXTS.map(text => ({ text, ...plain(eio.decodePacket(text)) })),
    payloads: PAYLOADS.map(text => ({ text, packets: plain(eio.decodePayload(text)) })),
    encode: first(done => eio.encodePayload([{ type: 'open', data: '{}' }, { type: 'ping' }, { type: 'message', data: 'hé' }, { type: 'message', data: bytes(1, 2, 3, 4) }, { type: 'message', data: bytes() }], done)),
  },
}, null, 1));
