// An HTTP proxy in front of a host, of the kinds that stand between browsers and servers: it refuses or swallows
// WebSockets, holds responses back until they end, answers in the host's place.

import { once } from 'node:events';
import { createServer, request as ask } from 'node:http';
import { connect } from 'node:net';
import { Gate } from './gate.mjs';

export class Middlebox {
  #sockets = new Set();
  #gate = new Gate();
  #upgrading = new Set();
  // How a WebSocket's handshake is treated. 'pass': it is passed on. A status: it is refused with it. 'close': it is
  // closed at once. 'hang': it gets no answer. 'mute': it is passed on, but nothing after it. 'drop': it is passed on
  // without the header lines for one connection only, as by a proxy that knows no WebSockets.
  upgrade = 'pass';
  // The statuses with which the host has answered handshakes.
  answered = [];
  // Whether responses are held back until they have ended.
  buffers = false;
  // A function that may answer in the host's place. It returns true if it did.
  instead = () => false;
  // The transports that were asked for: 'upgrade', or the URL's `transport`.
  seen = [];
  // How many requests are under way that may wait for their answer: streams, and polls without wait=0.
  waiting = 0;

  // It connects to this port of the host. `upstream` may be changed for later connections.
  static async start(upstream) {
    const box = new Middlebox();
    box.upstream = upstream;
    box.server = createServer((incoming, response) => box.#pass(incoming, response));
    box.server.on('upgrade', (incoming, socket, head) => box.#upgrade(incoming, socket, head));
    box.server.on('connection', (socket) => {
      box.#sockets.add(socket);
      socket.on('close', () => box.#sockets.delete(socket));
    });
    box.server.listen(0, '127.0.0.1');
    await once(box.server, 'listening');
    box.port = box.server.address().port;
    return box;
  }

  count(what) {
    return this.seen.filter((seen) => seen === what).length;
  }

  // How many handshakes were neither refused nor given up.
  get trials() {
    return this.#upgrading.size;
  }

  // The present connections stay, but carry nothing any more.
  freeze() {
    for (const socket of this.#sockets) {
      socket.pause();
      socket.write = () => true;
      socket.unpipe?.();
      socket.removeAllListeners('data');
    }
  }

  // Breaks all connections.
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  // The same, and nothing gets through before `body` is done. So clients miss the messages that it publishes.
  async cutWhile(body) {
    await this.#gate.cutWhile(() => this.cut(), body);
  }

  async stop() {
    this.server.close();
    this.cut();
    await once(this.server, 'close');
  }

  async #pass(incoming, response) {
    const asked = new URL(incoming.url, 'http://host').searchParams;
    this.seen.push(asked.get('transport'));
    if (asked.has('transport') && asked.get('wait') !== '0') {
      this.waiting++;
      response.on('close', () => { this.waiting--; });
    }
    await this.#gate.passed();
    if (response.destroyed) return;
    if (this.instead(incoming, response)) return;
    const { method, url, headers } = incoming;
    const outgoing = ask({ host: '127.0.0.1', port: this.upstream, method, path: url, headers, agent: false });
    outgoing.on('error', () => response.destroy());
    response.on('close', () => outgoing.destroy());
    outgoing.on('response', (answer) => {
      const kept = [];
      const begin = () => response.writeHead(answer.statusCode, answer.headers);
      if (!this.buffers) {
        begin();
        response.flushHeaders();
      }
      answer.on('data', (data) => (this.buffers ? kept.push(data) : response.write(data)));
      answer.on('error', () => response.destroy());
      answer.on('end', () => {
        if (!response.headersSent) begin();
        response.end(Buffer.concat(kept));
      });
    });
    incoming.pipe(outgoing);
  }

  async #upgrade(incoming, socket, head) {
    this.seen.push('upgrade');
    socket.on('error', () => {});
    await this.#gate.passed();
    if (socket.destroyed) return;
    this.#upgrading.add(socket);
    socket.on('close', () => this.#upgrading.delete(socket));
    if (this.upgrade === 'hang') return void socket.on('end', () => socket.destroy()).resume();
    if (this.upgrade === 'close') return void socket.destroy();
    if (typeof this.upgrade === 'number') {
      return void socket.end(`HTTP/1.1 ${this.upgrade} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
    }
    const { method, url, rawHeaders } = incoming;
    const host = connect(this.upstream, '127.0.0.1');
    let lines = `${method} ${url} HTTP/1.1\r\n`;
    for (let at = 0; at < rawHeaders.length; at += 2) {
      if (this.upgrade === 'drop' && /^(upgrade|connection)$/i.test(rawHeaders[at])) continue;
      lines += `${rawHeaders[at]}: ${rawHeaders[at + 1]}\r\n`;
    }
    host.write(`${lines}\r\n`);
    host.write(head);
    host.on('error', () => socket.destroy());
    host.on('close', () => socket.destroy());
    socket.on('close', () => host.destroy());
    socket.pipe(host);
    host.once('data', (data) => this.answered.push(Number(data.toString('latin1').split(' ')[1])));
    if (['pass', 'drop'].includes(this.upgrade)) return void host.pipe(socket);
    host.once('data', (data) => socket.write(data.subarray(0, data.indexOf('\r\n\r\n') + 4)));
    host.on('data', () => {});
  }
}
