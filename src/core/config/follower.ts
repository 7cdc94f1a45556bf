/**
 * What a node holds in memory of something large that is stored, beside the directory: it is loaded anew when the directory sees another
 * version of it, and what was loaded before stays in force until then. Who holds it says what loading is.
 */

export interface Follower {
  /** Resolves when what is stored is in force; from then on it is followed. */
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Resolves when what the directory knows to be stored is in force on this node. Call it after a change, before answering. */
  refresh(): Promise<void>;
}

export interface Followed {
  /** Whether what is in force is what the directory knows to be stored. */
  isCurrent(): boolean;
  /** Loads what is stored and puts it in force, or throws and changes nothing. */
  load(): Promise<void>;
  /** Calls the listener whenever the directory may know something new. */
  onChange(listener: () => void): void;
  /** Told when loading has failed: it is tried again. */
  onFailure(error: unknown): void;
}

const retryMs = 500;

export function createFollower({ isCurrent, load, onChange, onFailure }: Followed): Follower {
  let loading: Promise<void> | undefined;
  let retry: NodeJS.Timeout | undefined;
  let isStopped = false;

  /** One load at a time; a caller who comes during one looks again when it has ended. */
  async function refresh(): Promise<void> {
    while (loading) await loading.catch(() => {});
    if (isStopped || isCurrent()) return;
    loading = load().finally(() => {
      loading = undefined;
    });
    await loading;
  }

  async function follow(): Promise<void> {
    clearTimeout(retry);
    try {
      await refresh();
    } catch (error) {
      if (isStopped) return;
      onFailure(error);
      retry = setTimeout(() => void follow(), retryMs);
    }
  }

  return {
    async start() {
      await refresh();
      onChange(() => void follow());
    },
    async stop() {
      isStopped = true;
      clearTimeout(retry);
      await loading?.catch(() => {});
    },
    refresh,
  };
}
