/**
 * Keeps something large that is stored in a node's memory, beside the directory. It reloads when the directory sees another version; until
 * then the old one stays in force. The caller defines loading.
 */

export interface Follower {
  /** Resolves when the stored version is in force; from then on changes are followed. */
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Resolves when the version that the directory knows is in force on this node. Call it after a change, before answering. */
  refresh(): Promise<void>;
}

export interface Followed {
  /** Whether the version in force is the one that the directory knows. */
  isCurrent(): boolean;
  /** Loads the stored version and puts it in force, or throws and changes nothing. */
  load(): Promise<void>;
  /** Calls the listener whenever the directory may have a new version. */
  onChange(listener: () => void): void;
  /** Called when loading has failed; it is retried. */
  onFailure(error: unknown): void;
}

const retryMs = 500;

export function createFollower({ isCurrent, load, onChange, onFailure }: Followed): Follower {
  let loading: Promise<void> | undefined;
  let retry: NodeJS.Timeout | undefined;
  let isStopped = false;

  /** One load at a time. A caller who comes during a load checks again when it has ended. */
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
