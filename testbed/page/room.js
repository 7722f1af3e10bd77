// What a test can have a browser do in a room: `room.join(…)`, `room.share(…)` and so on, each called from outside with
// JSON values and answering with JSON values. What happens goes out by itself, in order, through `report`.
"use strict";

const room = (() => {
  let peer = null;
  let options = {};
  const local = new Map(); // name → {stream, tracks: [{track, stop}]}
  const heard = new Map(); // number → what is known of a received track
  const channels = new Map(); // number → DataChannel
  let lastTrack = 0, lastChannel = 0, lastConnection = 0;

  const now = () => (performance.timeOrigin + performance.now()) / 1000;
  const tell = (what, more) => report(JSON.stringify({ at: now(), what, ...more }));
  const message = (error) => `${error?.name ?? "Error"}: ${error?.message ?? error}`;
  const remote = (id) => peer.remotePeers.find((one) => one.id === id);

  // --- coming and going ---

  async function join(url, channel, access, more = {}) {
    options = more;
    peer = new MeteredPeer.MeteredPeer({
      url,
      ...(access.key ? { apiKey: access.key } : { tokenProvider: async () => access.token }),
      reconnect: { initialDelayMs: 50, maxDelayMs: 500, jitterRatio: 0, maxAttempts: 1000, ...more.reconnect },
      logger: Object.fromEntries(["debug", "info", "warn", "error"].map((level) =>
        [level, (text, context) => more.log && tell("log", { level, text: `${text} ${JSON.stringify(context ?? {})}` })])),
      webSocketFactory: makeSocket,
      rtcPeerConnectionFactory: makeConnection,
    });
    for (const name of ["joined", "left", "state-change"]) peer.on(name, (event) => tell(name, event));
    peer.on("error", ({ err }) => tell("error", { error: message(err) }));
    peer.on("data", ({ senderPeerId, data, kind, senderMetadata }) =>
      tell("data", { from: senderPeerId, data, kind, metadata: senderMetadata }));
    peer.on("peer-joined", ({ peer: other }) => { tell("peer-joined", { id: other.id, metadata: other.metadata }); meet(other); });
    peer.on("peer-left", ({ peer: other }) => tell("peer-left", { id: other.id }));
    // Media named beforehand goes along in the first offer.
    for (const [name, plan] of Object.entries(more.share ?? {})) await share(name, plan);
    await peer.join(channel);
    return peer.peerId;
  }

  function meet(other) {
    const about = (what, more) => tell(what, { id: other.id, ...more });
    other.on("state-change", (event) => about("remote-state", event));
    other.on("negotiation-error", ({ err }) => about("negotiation-error", { error: message(err) }));
    other.on("ice-candidate-error", ({ err }) => about("ice-candidate-error", { error: message(err) }));
    other.on("connection-reset", () => about("connection-reset"));
    other.on("track", ({ track, streams, metadata }) => {
      const number = listen(other.id, track, streams, metadata);
      about("track", { number, kind: track.kind, track: track.id, streams: streams.map((one) => one.id), metadata });
    });
    other.on("stream-added", ({ stream, metadata }) => about("stream-added", { stream: stream.id, metadata }));
    other.on("stream-removed", ({ stream }) => about("stream-removed", { stream: stream.id }));
    other.on("data-channel", ({ channel }) => about("data-channel", { channel: adopt(channel, other.id), label: channel.label }));
    for (const [label, plan] of Object.entries(options.channels ?? {})) openChannel(other.id, label, plan);
  }

  async function leave() {
    await peer?.close();
    for (const name of [...local.keys()]) stop(name);
    for (const one of heard.values()) one.quiet();
  }

  // --- what is below the SDK: watched, never touched ---

  function makeSocket(url) {
    const socket = new WebSocket(url);
    if (options.wire) {
      const send = socket.send.bind(socket);
      socket.send = (text) => { tell("sent", { frame: JSON.parse(text) }); send(text); };
      socket.addEventListener("message", ({ data }) => tell("got", { frame: JSON.parse(data) }));
    }
    return socket;
  }

  function makeConnection(configuration) {
    const pc = new RTCPeerConnection({ ...configuration, ...options.rtc });
    const number = ++lastConnection;
    tell("pc", { pc: number, servers: (configuration?.iceServers ?? []).length });
    if (options.wire) {
      for (const name of ["signalingState", "iceGatheringState", "iceConnectionState", "connectionState"]) {
        pc.addEventListener(`${name.toLowerCase()}change`, () => tell("pc-state", { pc: number, name, state: pc[name] }));
      }
      pc.addEventListener("icecandidate", ({ candidate }) => tell("pc-candidate", { pc: number, candidate: candidate?.candidate ?? null }));
      for (const name of ["setLocalDescription", "setRemoteDescription", "close", "restartIce"]) {
        const really = pc[name].bind(pc);
        pc[name] = (...words) => { tell("pc-call", { pc: number, name, type: words[0]?.type }); return really(...words); };
      }
    }
    return pc;
  }

  // --- media of ours ---

  // plan: {camera: true, microphone: true} | {colour: [r, g, b], noise, width, height, rate} and/or {hz}
  async function make(plan) {
    const tracks = [];
    if (plan.camera || plan.microphone) {
      const wanted = await navigator.mediaDevices.getUserMedia({
        video: plan.camera ? { width: plan.width ?? 640, height: plan.height ?? 480, frameRate: plan.rate ?? 30 } : false,
        audio: Boolean(plan.microphone),
      });
      for (const track of wanted.getTracks()) tracks.push({ track, stop: () => track.stop() });
    }
    if (plan.colour) tracks.push(picture(plan));
    if (plan.hz) tracks.push(tone(plan.hz));
    if (plan.order === "audio first") tracks.sort((one, other) => one.track.kind < other.track.kind ? -1 : 1);
    return tracks;
  }

  // Frames are made without anything being shown, so it does not matter whether the page is in front.
  function picture({ colour, noise = false, width = 320, height = 240, rate = 30 }) {
    const track = new MediaStreamTrackGenerator({ kind: "video" });
    const writer = track.writable.getWriter();
    const canvas = new OffscreenCanvas(width, height);
    const brush = canvas.getContext("2d");
    let count = 0;
    const timer = setInterval(() => {
      brush.fillStyle = `rgb(${colour.join()})`;
      brush.fillRect(0, 0, width, height);
      // A strip at the bottom that moves, so that no two frames are the same; the middle keeps its colour.
      brush.fillStyle = "white";
      brush.fillRect((count * 8) % width, height - 16, 16, 16);
      if (noise) {
        for (let n = 0; n < 400; n++) {
          brush.fillStyle = `rgb(${[0, 0, 0].map(() => Math.random() * 255).join()})`;
          brush.fillRect(Math.random() * width, Math.random() * height / 3, 12, 12);
        }
      }
      const frame = new VideoFrame(canvas, { timestamp: Math.round(performance.now() * 1000) });
      count++;
      writer.write(frame).catch(() => frame.close());
    }, 1000 / rate);
    return { track, stop: () => { clearInterval(timer); writer.close().catch(() => {}); track.stop(); } };
  }

  function tone(hz) {
    const context = new AudioContext();
    const source = new OscillatorNode(context, { frequency: hz });
    const gain = new GainNode(context, { gain: 0.5 });
    const sink = context.createMediaStreamDestination();
    source.connect(gain).connect(sink);
    source.start();
    const [track] = sink.stream.getAudioTracks();
    return { track, stop: () => { track.stop(); context.close(); } };
  }

  async function share(name, plan) {
    const tracks = await make(plan);
    const stream = new MediaStream(tracks.map((one) => one.track));
    local.set(name, { stream, tracks });
    if (plan.loose) for (const { track } of tracks) peer.addTrack(track, undefined, plan.metadata);
    else peer.addStream(stream, plan.metadata);
    return { stream: stream.id, tracks: tracks.map(({ track }) => ({ id: track.id, kind: track.kind })) };
  }

  function unshare(name) {
    const { stream, tracks } = local.get(name);
    if (stream.getTracks().length) peer.removeStream(stream);
    else for (const { track } of tracks) peer.removeTrack(track);
    stop(name);
  }

  function stop(name) {
    for (const one of local.get(name).tracks) one.stop();
    local.delete(name);
  }

  async function addTrack(name, plan) {
    const into = local.get(name);
    for (const made of await make(plan)) {
      into.tracks.push(made);
      into.stream.addTrack(made.track);
      peer.addTrack(made.track, into.stream, plan.metadata);
    }
  }

  function removeTrack(name, kind) {
    const from = local.get(name);
    const at = from.tracks.findIndex(({ track }) => track.kind === kind);
    const [gone] = from.tracks.splice(at, 1);
    peer.removeTrack(gone.track);
    from.stream.removeTrack(gone.track);
    gone.stop();
  }

  async function replace(name, kind, plan) {
    const where = local.get(name);
    const at = where.tracks.findIndex(({ track }) => track.kind === kind);
    const old = where.tracks[at];
    const [fresh] = plan ? await make(plan) : [null];
    await peer.replaceTrack(old.track, fresh ? fresh.track : null);
    old.stop();
    if (fresh) where.tracks[at] = fresh;
    else where.tracks.splice(at, 1);
  }

  // --- media of others ---

  function listen(id, track, streams, metadata) {
    const number = ++lastTrack;
    const one = { number, id, track, streams: streams.map((stream) => stream.id), metadata, frames: 0, firstAt: null, lastAt: null, gap: 0, frame: null };
    heard.set(number, one);
    // A remote track that is muted or has ended says so in its own words.
    for (const name of ["mute", "unmute", "ended"]) track.addEventListener(name, () => tell(`track-${name}`, { id, number, kind: track.kind }));
    if (track.kind === "video") look(one);
    else hear(one);
    return number;
  }

  function look(one) {
    const reader = new MediaStreamTrackProcessor({ track: one.track, maxBufferSize: 2 }).readable.getReader();
    one.quiet = () => { reader.cancel().catch(() => {}); one.frame?.close(); one.frame = null; };
    (async () => {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        const at = now();
        if (one.firstAt === null) { one.firstAt = at; tell("first-frame", { id: one.id, number: one.number, kind: "video" }); }
        else one.gap = Math.max(one.gap, at - one.lastAt);
        one.lastAt = at;
        one.frames++;
        one.frame?.close();
        one.frame = value;
      }
    })().catch(() => {});
  }

  function hear(one) {
    // Chromium decodes a remote's sound only while an element plays it.
    const element = new Audio();
    element.srcObject = new MediaStream([one.track]);
    element.play().catch(() => {});
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 8192 });
    context.createMediaStreamSource(element.srcObject).connect(analyser);
    one.analyser = analyser;
    one.quiet = () => { element.srcObject = null; context.close().catch(() => {}); };
  }

  // The colour in the middle, in whole numbers, and the loudest pitch.
  function tracks(id) {
    return [...heard.values()].filter((one) => !id || one.id === id).map((one) => ({
      number: one.number, id: one.id, kind: one.track.kind, track: one.track.id, streams: one.streams, metadata: one.metadata ?? null,
      live: one.track.readyState === "live", muted: one.track.muted,
      frames: one.frames, firstAt: one.firstAt, lastAt: one.lastAt, gap: one.gap, colour: colour(one), size: one.frame ? [one.frame.displayWidth, one.frame.displayHeight] : null,
      ...pitch(one),
    }));
  }

  const probe = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

  function colour({ frame }) {
    if (!frame) return null;
    const { displayWidth: width, displayHeight: height } = frame;
    probe.drawImage(frame, width / 2 - 4, height / 2 - 4, 8, 8, 0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  }

  function pitch({ analyser }) {
    if (!analyser) return { hz: null, loudness: null };
    const bins = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(bins);
    const peak = bins.indexOf(Math.max(...bins));
    return { hz: Math.round(peak * analyser.context.sampleRate / analyser.fftSize), loudness: Number.isFinite(bins[peak]) ? bins[peak] : null };
  }

  // Forget the longest gap so far, to measure another one.
  function forgetGaps() { for (const one of heard.values()) one.gap = 0; }

  // --- data ---

  function openChannel(id, label, plan = {}) {
    return adopt(remote(id).pc.createDataChannel(label, plan), id);
  }

  function adopt(raw, id) {
    const number = ++lastChannel;
    raw.binaryType = "arraybuffer";
    const channel = new MeteredPeer.DataChannel(raw);
    channels.set(number, { channel, raw, bytes: 0, messages: 0 });
    const about = (what, more) => tell(what, { id, channel: number, label: raw.label, ...more });
    channel.on("open", () => about("dc-open"));
    channel.on("close", () => about("dc-close"));
    channel.on("error", ({ err }) => about("dc-error", { error: message(err) }));
    channel.on("message", ({ data }) => {
      const one = channels.get(number);
      const size = typeof data === "string" ? data.length : data.byteLength;
      one.messages++;
      one.bytes += size;
      if (size <= 4096) about("dc-message", typeof data === "string" ? { text: data } : { bytes: [...new Uint8Array(data)] });
    });
    if (raw.readyState === "open") about("dc-open");
    return number;
  }

  const channelSend = (number, { text, bytes }) => channels.get(number).channel.send(text ?? new Uint8Array(bytes).buffer);
  const channelClose = (number) => channels.get(number).channel.close();
  const channelState = (number) => {
    const { raw, bytes, messages } = channels.get(number);
    return { label: raw.label, protocol: raw.protocol, ordered: raw.ordered, retransmits: raw.maxRetransmits, lifetime: raw.maxPacketLifeTime, state: raw.readyState, bytes, messages };
  };

  // Send `count` messages of `size` bytes as fast as they go.
  async function channelFlood(number, count, size) {
    const data = new Uint8Array(size).fill(7).buffer;
    for (let n = 0; n < count; n++) await channels.get(number).channel.send(data);
  }

  // --- looking closer ---

  // Nothing as long as the remote is not there.
  async function stats(id) {
    const found = [];
    (await remote(id)?.pc.getStats())?.forEach((entry) => found.push(entry));
    return found;
  }

  return {
    join, leave, share, unshare, addTrack, removeTrack, replace, tracks, forgetGaps, stats,
    send: (data) => peer.send(data), sendTo: (id, data) => peer.sendTo(id, data),
    openChannel, channelSend, channelClose, channelState, channelFlood,
  };
})();

window.addEventListener("unhandledrejection", ({ reason }) => console.error("nobody caught", String(reason)));
