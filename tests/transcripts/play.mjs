// Plays a transcript with the client that browsers run: node play.mjs NODE_MODULES URL TRANSCRIPT
// Writes what was heard, answered and captured, as JSON; whether it is right is for expectation.py to say.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const { io } = createRequire(path.resolve(process.argv[2]) + '/')('socket.io-client');
const [url, file] = process.argv.slice(3);
const transcript = JSON.parse(readFileSync(file, 'utf8'));
const QUIET_MS = 80; // after what was expected, for what was not
const PATIENCE = 15; // times the pause of the recording, for slow machines

const sockets = new Map(), variables = {}, log = {}, answers = {};
let now = 0;

const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
const at = (value, way) => way.split('.').reduce((inner, key) => inner?.[key], value);
const capture = (step, value) => {
  for (const [name, way] of Object.entries(step.capture ?? {})) variables[name] = at(value, way);
};
const note = (client, event, args) => {
  const values = JSON.parse(JSON.stringify(args, (_, value) => value === undefined ? null : value));
  (log[client] ??= []).push([now, event, values]);
};
const fill = value => {
  if (Array.isArray(value)) return value.map(fill);
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, fill(inner)]));
  if (typeof value !== 'string') return value;
  const whole = /^\{\{\$(\w+)\}\}$/.exec(value), repeat = /^\{\{repeat (.) (\d+)\}\}$/.exec(value);
  if (whole) return variables[whole[1]];
  if (repeat) return repeat[1].repeat(Number(repeat[2]));
  return value.replace(/\{\{\$(\w+)\}\}/g, (_, name) => variables[name]);
};

// Whether every client heard as much as it should in this step.
const complete = () => Object.entries(transcript.expect).every(([client, events]) => {
  const extra = transcript.mayAlso ?? [];
  const wanted = events.filter(each => each.step === now && !extra.includes(each.event)).length;
  return (log[client] ?? []).filter(([step, event]) => step === now && !extra.includes(event)).length >= wanted;
});
async function settle() {
  const end = Date.now() + PATIENCE * transcript.settleMs;
  while (!complete() && Date.now() < end) await pause(10);
  await pause(QUIET_MS);
}

async function request(step) {
  const [target, content, fields] = fill(step.args);
  const headers = { ...fields };
  let body;
  if (content !== undefined && content !== null) {
    body = typeof content === 'string' ? content : JSON.stringify(content);
    headers['content-type'] ??= 'application/json';
  }
  const response = await fetch(url + target, { method: step.action, headers, body, signal: AbortSignal.timeout(10_000) });
  const answer = { status: response.status, text: await response.text() };
  try {
    answer.json = JSON.parse(answer.text);
    capture(step, answer.json);
  } catch { /* it is none */ }
  return answer;
}

const connect = (name, options) => new Promise(resolve => {
  const socket = io(url, { path: transcript.path, forceNew: true, reconnection: false, transports: ['websocket'], ...options });
  sockets.set(name, socket);
  socket.on('connect', () => { note(name, '$connect', []); resolve(); });
  socket.on('connect_error', error => { note(name, '$connect_error', [error.message]); resolve(); });
  socket.on('disconnect', reason => note(name, '$disconnect', [reason]));
  socket.onAny((event, ...args) => note(name, event, args));
});

const ask = (step, socket, args) => new Promise(resolve => {
  const giveUp = setTimeout(() => { note(step.client, '$no_ack', []); resolve(); }, step.ackTimeout ?? 1000);
  socket.emit(...args, (...values) => {
    clearTimeout(giveUp);
    capture(step, values);
    note(step.client, '$ack', values);
    resolve();
  });
});

async function play(step) {
  const socket = sockets.get(step.client);
  switch (step.client === '$http' ? 'request' : step.action) {
    case 'request': answers[now] = await request(step); break;
    case 'sleep': case 'wait': await pause(step.args[0]); break;
    case 'connect': await connect(step.client, step.args[0]); break;
    case 'emit': await (step.ack ? ask(step, socket, fill(step.args)) : socket.emit(...fill(step.args))); break;
    case 'emit_then_disconnect': socket.emit(...fill(step.args)); socket.disconnect(); break;
    case 'disconnect': socket.disconnect(); break;
    case 'kill': socket.io.engine.transport.ws.terminate(); break;
    default: throw new Error(`no such action: ${step.action}`);
  }
}

for (const [number, step] of transcript.steps.entries()) {
  now = number;
  await play(step);
  await settle();
}
now = transcript.steps.length; // what follows is none of the transcript's
for (const socket of sockets.values()) socket.disconnect();
process.stdout.write(JSON.stringify({ log, answers, variables }));
