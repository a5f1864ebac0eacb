// What the original server does, by its documentation: gathers the body as a string, parses it,
// emits `_put` with key, event and a callback, and answers 201 once that is called.
//
// Its listener calls back at once. Never keeps anything.

const http = require('node:http');
const { EventEmitter } = require('node:events');

const peer = new EventEmitter();
peer.on('_put', (key, event, callback) => callback());

const server = http.createServer((request, response) => {
  let data = '';
  request.setEncoding('utf8');
  request.on('data', (chunk) => { data += chunk; });
  request.on('end', () => {
    let put;
    try {
      put = JSON.parse(data);
    } catch {
      response.writeHead(400).end();
      return;
    }
    peer.emit('_put', put.key, put.event, (error) => {
      response.writeHead(error ? 500 : 201).end();
    });
  });
});

server.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});
