// Types of push.js; docs/protocol.md says what each thing means.

export type Transport = 'ws' | 'stream' | 'poll';

/** `closed`: for good. */
export type State = 'connecting' | 'open' | 'closed';

/** A `code` below 1000 is a status of HTTP, else a close code. `retry`: the advice when to come back, in ms. */
export interface Why {
  code: number;
  reason: string;
  retry?: number;
}

export interface Message {
  /** Without a `channel` it is a broadcast; without an `id` it is for this client alone. */
  type: 'message' | 'broadcast';
  channel?: string;
  id?: string;
  event?: string;
  /** Text, or bytes in base64. */
  data: string;
  base64?: true;
}

export interface Gap {
  type: 'gap';
  /** None: of the broadcasts. */
  channel?: string;
  id: string;
}

/** A request that was refused, or (`unsubscribed`) a channel that was taken away. */
export interface PushError {
  type: 'error' | 'unsubscribed';
  code: string | number;
  message?: string;
  reason?: string;
  channel?: string;
}

export interface Options {
  channels?: Iterable<string>;
  /** A position to begin after. */
  since?: string | null;
  /** How many of the newest messages of each channel come first, if there is no position. */
  last?: number;
  /** In the order in which they are tried. */
  transports?: Transport[];
  onmessage?(message: Message): void;
  ongap?(gap: Gap): void;
  /** `why`: with `closed`, and with `connecting` after the connection was lost. */
  onstate?(state: State, why?: Why): void;
  onerror?(error: PushError): void;
  /** Null: there is no longer a login. */
  token?(): string | null | Promise<string | null>;
}

export interface PublishOptions {
  event?: string;
  /** Within `key_window` the same key publishes once. */
  key?: string;
}

export interface Push {
  /** After which it goes on; null before it was open. */
  readonly position: string | null;
  /** By which it is open; null: it is not. */
  readonly transport: Transport | null;
  /** To what comes from now on. */
  subscribe(channel: string): void;
  unsubscribe(channel: string): void;
  /** To the server. False: nothing was sent. */
  send(data: string | ArrayBuffer | ArrayBufferView): boolean;
  /** The position; or it is rejected with an error whose `code` says why. */
  publish(channel: string, data: string | ArrayBuffer | ArrayBufferView, options?: PublishOptions): Promise<string>;
  /** Sends a new token before the old one ends. */
  renew(): Promise<boolean>;
  close(): void;
}

export function connect(url: string | URL, options?: Options): Push;
