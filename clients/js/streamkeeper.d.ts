/** One request for an event stream. Whatever else `fetch` takes (credentials, mode, …) is handed on to it. */
export interface StreamOptions extends Omit<RequestInit, "body" | "headers" | "signal"> {
  /** Called anew for each connection if it is a function, so that tokens may change. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
  /** With a body the method is POST. A plain object or array is sent as JSON. No ReadableStream: it could not be sent again. */
  body?: Exclude<BodyInit, ReadableStream> | Record<string, unknown> | unknown[] | null;
  /** Aborting it disconnects; an iterator throws its reason. */
  signal?: AbortSignal | null;
  retry?: {
    /** Reconnects in a row that bring nothing, before it is an error. Default 5. */
    attempts?: number;
    /** Bound of the first random wait, in ms; doubled for each later one. Default 1000; the server's `retry:` replaces it. */
    base?: number;
    /** Bound of any wait, in ms; what the server asks for is obeyed beyond it. Default 30000. */
    max?: number;
  };
  /** In ms; 0 switches one off. */
  timeouts?: {
    /** Request → response head. Default 30000. */
    connect?: number;
    /** Bytes → more bytes; comments count. Default 60000. */
    idle?: number;
    /** The stream as a whole, all connections and waits included. Default 0. */
    total?: number;
  };
  /** Where to go on: an id that an earlier stream had as `lastEventId`. */
  lastEventId?: string;
  /** Names the answer in `storage`, so that a reload of the page finds it again. One key per answer. */
  resumeKey?: string;
  /** Default: sessionStorage, where there is one. */
  storage?: Pick<Storage, "getItem" | "setItem" | "removeItem">;
  /**
   * What a stream does whose `resumeKey` is known:
   * - `"repeat"` (default): the same request, with Last-Event-ID. The page has kept what it showed.
   * - `"attach"`: goes on by the session's own address at Streamkeeper; nothing of the request is needed but its URL and headers.
   * - `"replay"`: the same from the first event, for a page that has kept nothing.
   */
  afterReload?: "repeat" | "attach" | "replay";
  /**
   * Whether an event is the last one. Default: `data` is `[DONE]`, or the event is named `done`.
   * If you give one, a body that ends without such an event counts as cut.
   */
  isDone?: (event: StreamMessage) => boolean;
  /** A feed rather than an answer: every end of the body is a cut, also of a stream without ids. Default false. */
  endless?: boolean;
  /** Default: a random one, for anything but GET on the page's own origin. "" sends none. */
  idempotencyKey?: string;
  /** Default "/_streamkeeper/sessions/", seen from `url`. */
  sessionsPath?: string;
}

/** A server's event, as EventSource would hand it over. */
export type StreamMessage = MessageEvent<string>;

/** Events are missing, or what was shown is void. */
export interface GapEvent extends MessageEvent<string> {
  readonly type: "gap";
  /** First and last missing number; null where nobody can know. */
  readonly from: number | null;
  readonly to: number | null;
  /**
   * `evicted`, `lost`: these events are gone, the stream goes on behind them. `epoch`: what was shown from `from` on is
   * not part of the answer any more; it comes again, differently. `unnumbered`: an endless stream without ids came back.
   */
  readonly reason: "evicted" | "epoch" | "lost" | "unnumbered" | (string & {});
}

export interface StreamEventMap {
  /** Connected, first or again. `source`: live, replay, fallback or continued; null without Streamkeeper. */
  open: Event & { readonly session: string; readonly source: string | null };
  /** An event without a name. Named ones arrive under their own name. */
  message: StreamMessage;
  /** It will try again in `delay` ms, for the `attempt`th time in a row, because of `error`. What was shown stays valid. */
  reconnecting: Event & { readonly attempt: number; readonly delay: number; readonly error: StreamError };
  gap: GapEvent;
  /** The server reported an error of severity `warning`; the stream goes on. */
  warning: StreamMessage & { readonly error: StreamError };
  /** The stream has failed; nothing follows. */
  error: Event & { readonly error: StreamError };
  /** The answer is whole; nothing follows. `data` is that of the event that said so, or "". */
  done: StreamMessage;
}

/** Why a stream failed, or broke off for a moment. */
export declare class StreamError extends Error {
  readonly name: "StreamError";
  /** `network`: no answer, or the connection broke. The others are what the server says. */
  readonly type: "validation" | "business" | "system" | "timeout" | "rate_limit" | "network";
  /** Streamkeeper's code, the vendor's, `http_<status>`, or one of ours: network_error, ended, connect_timeout, idle_timeout, total_timeout, bad_content_type. */
  readonly code: string;
  readonly severity: "warning" | "error" | "fatal";
  /** Whether asking again can help. What was shown is worth keeping either way. */
  readonly recoverable: boolean;
  /** The HTTP status, where one came. */
  readonly status?: number;
  readonly requestId?: string;
  /** How long the server asks to wait, in ms. */
  readonly retryAfter?: number;
}

export declare class EventStream extends EventTarget implements AsyncIterable<StreamMessage | GapEvent> {
  /** Use {@link openStream}. */
  private constructor();
  /** "closed" after done, error, stop, disconnect and abort. */
  readonly state: "connecting" | "open" | "waiting" | "closed";
  /** The session's id at Streamkeeper; "" elsewhere, and before the first head. */
  readonly session: string;
  /** The id of the last event that was handed over. */
  readonly lastEventId: string;
  /** Leaves, quietly. The answer goes on at Streamkeeper for a while, and can be come back to. */
  disconnect(): void;
  /** Ends the answer: Streamkeeper cancels the upstream. Resolves to whether it has confirmed that. Never rejects. */
  stop(): Promise<boolean>;
  /** Every event once, in order, from the first. Throws the StreamError that ends it. Leaving the loop disconnects. One loop per stream. */
  [Symbol.asyncIterator](): AsyncGenerator<StreamMessage | GapEvent, void, void>;
  addEventListener<K extends keyof StreamEventMap>(
    type: K, listener: (this: EventStream, event: StreamEventMap[K]) => unknown, options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string, listener: (this: EventStream, event: StreamMessage) => unknown, options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof StreamEventMap>(
    type: K, listener: (this: EventStream, event: StreamEventMap[K]) => unknown, options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string, listener: (this: EventStream, event: StreamMessage) => unknown, options?: boolean | EventListenerOptions,
  ): void;
}

/** Opens a stream. It connects by itself; add listeners or iterate at once. Throws TypeError for what can never work. */
export declare function openStream(url: string | URL, options?: StreamOptions): EventStream;

/** What the stream with this `resumeKey` left behind when its page went away; null if it ended, or there was none. */
export declare function savedStream(
  resumeKey: string, storage?: Pick<Storage, "getItem">,
): { session: string; lastEventId: string } | null;

/** An incremental parser of event streams (WHATWG HTML 9.2.6). */
export declare class EventParser {
  readonly lastEventId: string;
  readonly retry: number | undefined;
  /** Takes text in any cut; returns the events that it completes. `id` is the block's own, if it has one. */
  push(text: string): { type: string; data: string; id: string | undefined; lastEventId: string }[];
}
