import { cpus } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';

/** Milliseconds that all cores together were busy and had in all, since the machine started. */
interface Times {
  readonly busy: number;
  readonly all: number;
}

function times(): Times {
  let busy = 0;
  let all = 0;
  for (const { times: t } of cpus()) {
    const used = t.user + t.nice + t.sys + t.irq;
    busy += used;
    all += used + t.idle;
  }
  return { busy, all };
}

function own(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Tells from the cores' clocks how much of them other programs take. The load average lags by a minute; this does not. */
export class HostWatch {
  #times = times();
  #own = own();

  /**
   * Share of all cores' time that neither idled nor was this process's (or `children` milliseconds of processes that it started), since the
   * last question. 0 where the system tells nothing.
   */
  othersShare(children = 0): number {
    const now = times();
    const mine = own();
    const all = now.all - this.#times.all;
    const others = now.busy - this.#times.busy - (mine - this.#own) - children;
    this.#times = now;
    this.#own = mine;
    // the clocks tick every 10 ms: less than this tells nothing
    return all >= 200 ? Math.min(1, Math.max(0, others / all)) : 0;
  }

  /** The same over the next moment, in which this process does nothing. */
  async look(milliseconds: number): Promise<number> {
    this.othersShare();
    await wait(milliseconds);
    return this.othersShare();
  }
}
