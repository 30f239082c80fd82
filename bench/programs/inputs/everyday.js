// everyday.js: what node programs do all day. Says what it found; the same on every malloc.
'use strict'
const crypto = require('crypto')
const fs = require('fs')
const zlib = require('zlib')
const { once } = require('events')
const { pipeline } = require('stream/promises')
const { Readable, Transform } = require('stream')
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads')
const { spawnSync } = require('child_process')

function objects (rounds) {
  const users = new Map()
  let dice = 1
  for (let n = 0; n < rounds; n++) {
    dice = (Math.imul(dice, 1664525) + 1013904223) >>> 0
    const name = `user${dice % 997}`
    const user = users.get(name) || { name, visits: [], tags: {} }
    user.visits.push({ n, text: 'x'.repeat(dice % 50), at: [dice & 255, n / 3] })
    user.tags['t' + dice % 13] = n
    users.set(name, user)
    if (user.visits.length > 30) user.visits.splice(0, 20)
  }
  const text = JSON.stringify([...users.values()])
  const back = JSON.parse(text)
  const matched = text.match(/"t1[0-2]":(\d+)/g).length
  return [users.size, text.length, back.length, matched, crypto.createHash('sha256').update(text).digest('hex')]
}

async function buffers (rounds) {
  const parts = []
  for (let n = 0; n < rounds / 100; n++) parts.push(Buffer.alloc(1 + n * 37 % 5000, n & 255))
  const whole = Buffer.concat(parts)
  const packed = zlib.gzipSync(whole, { level: 6 })
  const brotli = zlib.brotliCompressSync(whole, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 4 } })
  const same = zlib.gunzipSync(packed).equals(whole) && zlib.brotliDecompressSync(brotli).equals(whole)
  const upper = new Transform({ transform (chunk, _, done) { done(null, chunk.toString('latin1').toUpperCase()) } })
  await pipeline(Readable.from(parts.map(part => part.toString('latin1'))), upper, zlib.createGzip(), fs.createWriteStream('stream.gz'))
  const key = crypto.scryptSync('word', 'salt', 32)
  const cipher = crypto.createCipheriv('aes-256-ctr', key, Buffer.alloc(16))
  const digest = crypto.createHash('sha1').update(cipher.update(whole)).digest('hex')
  const copies = await Promise.all(Array.from({ length: 20 }, (_, n) => new Promise((resolve, reject) => {
    zlib.deflate(whole.subarray(n * 10), (error, out) => error ? reject(error) : resolve(out.length))
  })))
  return [whole.length, packed.length, brotli.length, same, digest, copies.reduce((a, b) => a + b, 0)]
}

async function workers (rounds) {
  const crew = [1, 2, 3].map(id => new Worker(__filename, { workerData: { rounds: Math.floor(rounds / (3 + id)) } }))
  const said = await Promise.all(crew.map(async one => (await once(one, 'message'))[0]))
  await Promise.all(crew.map(one => one.terminate()))
  return said
}

async function main () {
  const rounds = Number(process.argv[2] || 1000)
  console.log(objects(rounds).join(' '))
  console.log((await buffers(rounds)).join(' '))
  for (const row of await workers(rounds)) console.log(row.join(' '))
  const child = spawnSync(process.execPath, ['-e', 'console.log([..."child"].reverse().join(""))'], { encoding: 'utf8' })
  console.log(child.stdout.trim(), child.status)
  const sorted = Array.from({ length: rounds }, (_, n) => String(n * 7919 % rounds)).sort()
  console.log(sorted[5], sorted[sorted.length - 5], new Set(sorted.map(text => text.slice(0, 3))).size)
  console.log([...'zażółć gęślą jaźń'].map(c => c.codePointAt(0).toString(36)).join(''), 2n ** 200n)
}

if (isMainThread) main()
else parentPort.postMessage(objects(workerData.rounds))
