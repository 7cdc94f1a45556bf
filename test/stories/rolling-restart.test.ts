/**
 * Two nodes behind a load balancer are restarted one after the other while customers submit: no request fails, and no message is lost,
 * repeated or in doubt.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Node } from '../kit/processes.ts';
import { type Client, clientOf, createPuller, plainNumbers, startPlatform, until } from '../kit/platform.ts';

const clients = 6;
const perSubmit = 20;
const balanceE4 = 10_000_000_000n;
/** The time of grace of a node; a load balancer looks several times within it. */
const grace = { HONGYAN_STOP_GRACE_SECONDS: '2' };
const checkMs = 100;

/** What a load balancer does: asks every node how it is, and gives each request to the next one that is well. */
function createBalancer(first: readonly Node[]) {
  let nodes = first;
  let well: readonly Node[] = first;
  let turn = 0;
  let isStopped = false;
  const checking = (async () => {
    while (!isStopped) {
      const asked = await Promise.all(
        nodes.map(async (node) => ({
          node,
          isWell: (await fetch(`http://127.0.0.1:${node.port}/healthz`).catch(() => null))?.status === 200,
        })),
      );
      well = asked.filter(({ isWell }) => isWell).map(({ node }) => node);
      await sleep(checkMs);
    }
  })();
  return {
    next: (): Node | undefined => well[turn++ % well.length],
    replace(before: Node, after: Node) {
      nodes = nodes.map((node) => (node === before ? after : node));
    },
    isWell: (node: Node) => well.includes(node),
    async stop() {
      isStopped = true;
      await checking;
    },
  };
}

it('nodes restarted one after the other under load: every request is answered, every message sent once', async ({ onTestFinished }) => {
  const platform = await startPlatform({ connections: 4, ratePerSecond: 2000, window: 64 });
  onTestFinished(() => platform.stop());
  const { carrier, shown } = platform;
  carrier.faults = { responseDelayMs: 20 };
  // Whatever were in doubt would end as UNKNOWN, so that it cannot hide.
  const customer = await platform.customer({ balanceE4, inDoubt: 'give_up' });
  const nodes = [await platform.startNode(grace), await platform.startNode(grace)];
  const balancer = createBalancer(nodes);
  onTestFinished(() => balancer.stop());

  const accepted: string[] = [];
  const failed: string[] = [];
  const byNode = new Map<Node, Client>();
  const answeredBy = new Map<Node, number>();
  const pool = plainNumbers(200_000);
  let submits = 0;
  let isOver = false;
  const submitting = Array.from({ length: clients }, async () => {
    while (!isOver) {
      const node = balancer.next();
      if (!node) throw new Error('no node is well');
      const client = byNode.get(node) ?? clientOf(node, customer);
      byNode.set(node, client);
      const numbers = pool.slice(submits * perSubmit, ++submits * perSubmit);
      const answer = await client.submit(numbers).catch((error: Error) => error);
      if (!(answer instanceof Error) && answer.code === 0) {
        accepted.push(...numbers.map((mobile) => `${answer.msgId}/${mobile}`));
        answeredBy.set(node, (answeredBy.get(node) ?? 0) + 1);
      } else failed.push(answer instanceof Error ? answer.message : `${answer.code} ${answer.msg}`);
      await sleep(20);
    }
  });

  await until('both nodes answer', () => nodes.every((node) => (answeredBy.get(node) ?? 0) >= 5));
  const started: Node[] = [];
  for (const node of nodes) {
    const before = answeredBy.get(node) ?? 0;
    await node.stop();
    expect(node.process.exitCode).toBe(0);
    expect(answeredBy.get(node)).toBeGreaterThan(before); // in its time of grace
    const next = await platform.startNode(grace);
    started.push(next);
    balancer.replace(node, next);
    await until('the node is back and answers', () => balancer.isWell(next) && (answeredBy.get(next) ?? 0) >= 5);
  }
  isOver = true;
  await Promise.all(submitting);
  expect(failed).toEqual([]);

  const [last] = started;
  if (!last) throw new Error('no node');
  const puller = createPuller(clientOf(last, customer));
  await puller.waitFor(accepted.length, 60_000);
  await sleep(100);
  await puller.stop();
  expect(puller.rows.filter(({ status }) => status !== 'DELIVRD')).toEqual([]);
  expect(puller.rows.map(({ msgId, mobile }) => `${msgId}/${mobile}`).sort()).toEqual([...accepted].sort());
  expect(shown.map(({ to }) => to).sort()).toEqual(accepted.map((key) => key.slice(key.indexOf('/') + 1)).sort());
  expect(await platform.audit()).toEqual([]);
}, 120_000);
