// The same POST /ingest with Fastify and BullMQ: node server.js REDIS_SOCKET. Says "ready PORT" on a free port.
import { randomUUID } from "node:crypto";
import { Queue, Worker } from "bullmq";
import Fastify from "fastify";
import Redis from "ioredis";

const BATCH_SIZE = 3;
const priorities = { HIGH: 1, MEDIUM: 2, LOW: 3 };
const connect = () => new Redis(process.argv[2], { maxRetriesPerRequest: null });
const queue = new Queue("batches", { connection: connect() });
new Worker("batches", () => new Promise((done) => setTimeout(done, 1500)), {
  connection: connect(),
  limiter: { max: 1, duration: 5000 },
});

const body = {
  type: "object",
  required: ["ids", "priority"],
  properties: {
    ids: { type: "array", minItems: 1, maxItems: 100000, items: { type: "integer", minimum: 1, maximum: 2 ** 53 - 1 } },
    priority: { enum: Object.keys(priorities) },
  },
};
const response = { 200: { type: "object", properties: { ingestion_id: { type: "string" } } } };

const app = Fastify();
app.post("/ingest", { schema: { body, response } }, async (request) => {
  const { ids, priority } = request.body;
  const ingestion_id = randomUUID();
  const jobs = [];
  for (let at = 0; at < ids.length; at += BATCH_SIZE) {
    jobs.push({
      name: "batch",
      data: { ingestion_id, ids: ids.slice(at, at + BATCH_SIZE) },
      opts: { jobId: `${ingestion_id}-${jobs.length}`, priority: priorities[priority] },
    });
  }
  await queue.addBulk(jobs); // Redis answers after its fsync
  return { ingestion_id };
});
await app.listen({ host: "127.0.0.1", port: 0 });
console.log(`ready ${app.server.address().port}`);
