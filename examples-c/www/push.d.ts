// Types of push.js; docs/protocol.md says what each thing means.

export type Transport = 'ws' | 'stream' | 'poll';

/** `closed`: for good; but if all channels have ended, `subscribe` opens it anew. */
export type State = 'connecting' | 'open' | 'closed';

/** A `code` below 1000 is an HTTP status, else a close code. `retry`: the advice when to come back, in ms. */
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
  /** Without a channel: the gap is in the broadcasts. A pattern (`news.*`): it may be in each of its channels. */
  channel?: string;
  /** With `last`, of several gaps before the first message only the last one has it. */
  id?: string;
}

/** The stream of a channel begins, or has ended. */
export interface Mark {
  type: 'begin' | 'end';
  channel: string;
  /** Of several ends that come together only the last one may have it. */
  id?: string;
}

/** All channels whose names begin with what stands before the `*`, which is the last character. */
export interface Pattern {
  pattern: string;
}

/** Who is in a channel, by user. */
export interface Members {
  /** From names to infos; null: the user has none. Null in place of the map: there are too many, only the number is
   * known. */
  users: Map<string, string | null> | null;
  count: number;
}

/** Comes first, after each break, and when many come and go at once. */
export interface Presence extends Members {
  type: 'presence';
  channel: string;
  off?: undefined;
}

/** The server does not tell who is in this channel. */
export interface PresenceOff {
  type: 'presence';
  channel: string;
  off: true;
  users?: undefined;
  count?: undefined;
}

/** A user has come, or has another `info` now. */
export interface Join {
  type: 'join';
  channel: string;
  user: string;
  info: string | null;
  count: number;
}

export interface Leave {
  type: 'leave';
  channel: string;
  user: string;
  count: number;
}

/** A request that was refused, or (`unsubscribed`) a channel or pattern that was taken away. */
export interface PushError {
  type: 'error' | 'unsubscribed';
  code: string | number;
  message?: string;
  reason?: string;
  /** The name of a channel, or a pattern. */
  channel?: string;
}

export interface Options {
  channels?: Iterable<string>;
  /** Such as `news.*`: all channels whose names begin so. */
  patterns?: Iterable<string>;
  /** A position to begin after, or `start`: with everything that is kept of the channels. */
  since?: string | null;
  /** How many of the newest messages of each channel come first, if there is no position. */
  last?: number;
  /** The server has a channel for each user (option `user_channel`): over streams and polls it is asked for also while
   * there are no `channels`. Over a WebSocket it comes by itself. */
  user?: boolean;
  /** The id of this page, a UUID, or true: a new one. Messages that are published except for it leave the page out. A
   * page that is loaded anew needs another one, since what it has shown is gone. */
  client?: string | true | null;
  /** The transports, in the order in which they are tried. */
  transports?: Transport[];
  /** Whether to ask who is there: in all channels, or in these of them. It makes no subscription. */
  presence?: boolean | Iterable<string>;
  onmessage?(message: Message): void;
  ongap?(gap: Gap): void;
  /** A stream begins, perhaps anew: what came of the channel before is no part of it. */
  onbegin?(begin: Mark): void;
  /** Nothing more comes of the channel, and it is left. When the server says that all channels have ended, also those
   * that the host gives, the state is `closed`. */
  onend?(end: Mark): void;
  /** `why` is given with `closed`, and with `connecting` after the connection was lost. */
  onstate?(state: State, why?: Why): void;
  onerror?(error: PushError): void;
  /** Replaces what is known of the channel. */
  onpresence?(presence: Presence | PresenceOff): void;
  onjoin?(join: Join): void;
  onleave?(leave: Leave): void;
  /** It returns null if there is no login any more. */
  token?(): string | null | Promise<string | null>;
}

export interface PublishOptions {
  event?: string;
  /** Within `key_window`, a key publishes only once. */
  key?: string;
  /** False: this page does not get the message. It needs the option `client` to hold beyond the connection. */
  echo?: boolean;
}

export interface SubscribeOptions {
  /** Whether to ask who is in the channel. Without it the `presence` of the options says so. */
  presence?: boolean;
}

export interface Push {
  /** The position after which it goes on; null before it was open. */
  readonly position: string | null;
  /** The transport by which it is open; null if it is not open. */
  readonly transport: Transport | null;
  /** The id of this page; null if the option `client` is not set. */
  readonly client: string | null;
  /** Subscribes to new messages of a channel, or of all channels that a pattern fits. After all channels have ended it
   * opens the connection anew. A function here gets their messages, after the `onmessage` of the options. */
  subscribe(
    what: string | Pattern, onmessage?: ((message: Message) => void) | null, options?: SubscribeOptions,
  ): void;
  /** Channels that the page has by their names as well, or by another pattern, stay. */
  unsubscribe(what: string | Pattern): void;
  /** Who is in the channel, as far as the page was told; null if nothing is known. */
  presence(channel: string): Members | null;
  /** True when all channels have ended; false when it is closed before that. It is never rejected. When it is opened
   * anew, this is another promise. */
  readonly ended: Promise<boolean>;
  /** Sends to the server. False: nothing was sent. */
  send(data: string | ArrayBuffer | ArrayBufferView): boolean;
  /** Resolves to the position. If it is rejected, the `code` of the error says why. If the server has refused the
   * message, that is `refused`, and `status` has the status. */
  publish(channel: string, data: string | ArrayBuffer | ArrayBufferView, options?: PublishOptions): Promise<string>;
  /** Calls the server. Resolves to its answer: text, or bytes. If it is rejected, the `code` of the error says why. If
   * the server has refused the call, that is `refused`, and `status` has the status. */
  call(data: string | ArrayBuffer | ArrayBufferView): Promise<string | Uint8Array>;
  /** Sends a new token before the old one ends. */
  renew(): Promise<boolean>;
  close(): void;
}

export function connect(url: string | URL, options?: Options): Push;
