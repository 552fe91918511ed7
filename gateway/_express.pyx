# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled express lanes: audio from one socket to the other without a line of Python, both ways.

Optional: without it `gateway.intake` and `gateway.resample` use their Python, and all that can be seen from
outside is the same (both builds go through the same tests). Everything here is a *subset*: whatever is not the
usual frame of an undisturbed call is handed to the bridge untouched, which alone decides what it is worth.

What is usual: one or more whole masked text frames, each a `media` message in Twilio's usual form, of the
stream that the lane carries, its audio exactly where it was expected (`gateway.jitter`). The other way
(`_outlet.pxi`): audio that playout has due, and the marks behind it, while nothing else is to be said.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.math cimport fabs
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memmove, memset

import os

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)
    enum: EPOLLIN
    enum: EPOLLOUT

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void *buf, size_t size, int flags)
    ssize_t send(int fd, const void *buf, size_t size, int flags)
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *now)
    int nanosleep(const timespec *wanted, timespec *left)
    enum: CLOCK_MONOTONIC

cdef extern from *:
    """
    /* One output of the filter is a product of two rows of doubles. Compiled for the processors that have wider
       registers as well; which one is taken is decided when the module is loaded. A vector of this type may be
       split into narrower ones, so the source is the same for all. */
    #if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
    #define TANDEM_WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
    #else
    #define TANDEM_WIDE
    #endif
    #ifdef __GNUC__
    typedef double tandem_row __attribute__((vector_size(32), aligned(8), may_alias));
    TANDEM_WIDE
    static void tandem_filter(const double *taps, const double *window, int length, int up, int down,
                              long long at, long long first, int count, int16_t *out)
    {
        const double *x = window + (at / up - first);
        int phase = at % up, step = down / up, rest = down % up;
        for (int i = 0; i < count; i++) {
            const double *tap = taps + phase * length;
            tandem_row a = {0}, b = {0};
            for (int k = 0; k < length; k += 8) {
                a += *(const tandem_row *)(tap + k) * *(const tandem_row *)(x + k);
                b += *(const tandem_row *)(tap + k + 4) * *(const tandem_row *)(x + k + 4);
            }
            a += b;
            double y = __builtin_rint((a[0] + a[1]) + (a[2] + a[3]));
            out[i] = (int16_t)(y < -32768.0 ? -32768.0 : y > 32767.0 ? 32767.0 : y);
            x += step;
            phase += rest;
            if (phase >= up) {
                phase -= up;
                x++;
            }
        }
    }
    #else
    #error "a compiler with vector types is needed; without it the package is installed in pure Python"
    #endif
    """
    void tandem_filter(const double *taps, const double *window, int length, int up, int down,
                       long long at, long long first, int count, int16_t *out) noexcept nogil

cdef enum:
    ROW = 8                 # taps are padded to whole steps of the loop above
    EVENTS_MAX = 1024
    RECEIVE_MAX = 65536
    FRAMES_MAX = 8          # of one receive; a longer backlog is the bridge's
    MESSAGE_MAX = 4096      # of Twilio's; the usual one has about 400 bytes
    AUDIO_MAX = 2048        # µ-law bytes of one frame
    SAMPLES_MAX = AUDIO_MAX * 6
    OUT_MAX = FRAMES_MAX * 40000
    KEYS_BYTES = 4096
    PIECE = 512             # samples that a filter takes at once: bounds its memory

# As in gateway.jitter.
cdef double BASE_LEAK = 1e-4
cdef double FUTURE_MAX_MS = 30000.0

cdef uint8_t BASE64_VALUE[256]
cdef const char *ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
cdef const char *ENVELOPE = '{"user_audio_chunk":"'
cdef enum:
    ENVELOPE_BYTES = 21


cdef void _make_tables():
    cdef int i
    memset(BASE64_VALUE, 255, 256)
    for i in range(64):
        BASE64_VALUE[<uint8_t>ALPHABET[i]] = <uint8_t>i


_make_tables()


cdef inline double _mono() noexcept nogil:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return at.tv_sec + at.tv_nsec * 1e-9


cdef class CallerFlow:
    """The part of a call's state that changes with every frame of caller audio.

    Shared by the lane and the Python that looks after everything unusual. See `gateway.flow`.
    """

    cdef public double heard_s
    cdef public long long frames
    cdef public long long placed_frames
    cdef public long long sent_frames
    cdef public double sent_ms
    cdef public double next_ms
    cdef public double base_ms
    cdef public double last_transit_ms
    cdef public double jitter_ms
    cdef public double lag_max_ms
    cdef public double aged_max_ms
    cdef public double aged_since_s

    def __init__(self, double aged_max_ms=0.0):
        self.next_ms = float("nan")
        self.aged_since_s = float("nan")
        self.aged_max_ms = aged_max_ms

    cdef bint place(self, double timestamp_ms, double duration_ms, double now_s) noexcept nogil:
        """`CallerTimeline.place` for audio that begins where it was expected and is not too old.

        Nothing is changed where it is not that.
        """
        cdef double transit_ms, lag_ms
        if self.next_ms != timestamp_ms or self.aged_since_s == self.aged_since_s:
            return False
        transit_ms = now_s * 1000.0 - timestamp_ms
        lag_ms = transit_ms - self.base_ms
        if lag_ms > self.aged_max_ms or lag_ms < -FUTURE_MAX_MS:
            return False
        self.jitter_ms += (fabs(transit_ms - self.last_transit_ms) - self.jitter_ms) / 16.0
        self.last_transit_ms = transit_ms
        if lag_ms <= 0.0:
            self.base_ms = transit_ms
        else:
            self.base_ms += lag_ms * BASE_LEAK
            if lag_ms > self.lag_max_ms:
                self.lag_max_ms = lag_ms
        self.next_ms = timestamp_ms + duration_ms
        self.placed_frames += 1
        return True


cdef class Fir:
    """The inner loop of `gateway.resample.Resampler`, which explains the filter and makes its taps.

    Products and sums are exact in double precision, so the output is that of the numpy version, bit for bit.
    """

    cdef int up, down, length, history
    cdef double *taps
    cdef double *window
    cdef int window_max, held
    cdef readonly long long received
    cdef long long produced

    def __cinit__(self, int up, int down, bytes taps, int length):
        """`taps`: for each of `up` phases `length` doubles, the newest sample's first."""
        cdef const double *given = <const double *>PyBytes_AS_STRING(taps)
        cdef int phase, k
        if PyBytes_GET_SIZE(taps) != up * length * sizeof(double):
            raise ValueError("taps do not fit")
        self.up, self.down = up, down
        self.length = (length + ROW - 1) // ROW * ROW
        self.history = self.length - 1
        self.window_max = self.history + self.length + PIECE
        self.taps = <double *>calloc(up * self.length, sizeof(double))
        self.window = <double *>malloc(self.window_max * sizeof(double))
        if self.taps == NULL or self.window == NULL:
            raise MemoryError
        # Stored the oldest sample's first, as the window is, behind the padding.
        for phase in range(up):
            for k in range(length):
                self.taps[(phase + 1) * self.length - 1 - k] = given[phase * length + k]
        self.reset()

    def __dealloc__(self):
        free(self.taps)
        free(self.window)

    cpdef void reset(self):
        self.received = self.produced = 0
        self.held = self.history
        memset(self.window, 0, self.window_max * sizeof(double))

    def push(self, bytes pcm16) -> bytes:
        """All that is ready after these samples. Any length."""
        cdef const int16_t *samples = <const int16_t *>PyBytes_AS_STRING(pcm16)
        cdef int count = PyBytes_GET_SIZE(pcm16) // 2
        cdef long long total = ((self.received + count) * self.up + self.down - 1) // self.down - self.produced
        cdef bytes out = PyBytes_FromStringAndSize(NULL, total * 2)
        self.run(samples, count, <int16_t *>PyBytes_AS_STRING(out))
        return out

    cdef int run(self, const int16_t *samples, int count, int16_t *out) noexcept nogil:
        """Take `count` samples; returns how many came out."""
        cdef int piece, made = 0
        while count > 0:
            piece = min(count, PIECE)
            made += self.run_piece(samples, piece, out + made)
            samples += piece
            count -= piece
        return made

    cdef int run_piece(self, const int16_t *samples, int count, int16_t *out) noexcept nogil:
        cdef int i, made
        cdef long long first, total
        for i in range(count):
            self.window[self.held + i] = samples[i]
        self.held += count
        # window[0] is the input at this position of the stream.
        first = self.received + count - self.held
        self.received += count
        # Output m needs the input at floor(m * down / up) and older ones.
        total = (self.received * self.up + self.down - 1) // self.down
        made = <int>(total - self.produced)
        tandem_filter(
            self.taps, self.window, self.length, self.up, self.down,
            self.produced * self.down, first + self.history, made, out,
        )
        self.produced = total
        # The next output needs inputs from here on.
        cdef int drop = <int>(self.produced * self.down // self.up - first - self.history)
        if drop > 0:
            drop = min(drop, self.held)
            self.held -= drop
            memmove(self.window, self.window + drop, self.held * sizeof(double))
        return made


cdef class Lane:
    """One call's way from its caller leg to its agent leg."""

    cdef int caller_fd, agent_fd
    cdef bint is_open
    cdef object write      # sends through TLS what it is given; None for a plain socket
    cdef bint is_pcm
    cdef CallerFlow flow
    cdef bytes stream_sid
    cdef Fir fir
    cdef object owner


cdef inline const uint8_t *_word(const uint8_t *at, const uint8_t *end, const char *word, int size) noexcept nogil:
    if at == NULL or end - at < size or memcmp(at, word, size) != 0:
        return NULL
    return at + size


cdef inline const uint8_t *_sign(const uint8_t *at, const uint8_t *end, uint8_t sign) noexcept nogil:
    """A colon or comma, and maybe one space."""
    if at == NULL or at >= end or at[0] != sign:
        return NULL
    at += 1
    if at < end and at[0] == c' ':
        at += 1
    return at


cdef inline const uint8_t *_count(const uint8_t *at, const uint8_t *end, long long *value) noexcept nogil:
    """`"digits"`, one to eighteen of them."""
    cdef long long found = 0
    cdef int digits = 0
    if at == NULL or at >= end or at[0] != c'"':
        return NULL
    at += 1
    while at < end and c'0' <= at[0] <= c'9':
        found = found * 10 + (at[0] - c'0')
        digits += 1
        if digits > 18:
            return NULL
        at += 1
    if not digits or at >= end or at[0] != c'"':
        return NULL
    value[0] = found
    return at + 1


cdef inline const uint8_t *_sid(const uint8_t *at, const uint8_t *end, const uint8_t *sid, int size) noexcept nogil:
    at = _word(at, end, '"streamSid"', 11)
    at = _sign(at, end, c':')
    at = _word(at, end, '"', 1)
    at = _word(at, end, <const char *>sid, size)
    return _word(at, end, '"', 1)


cdef bint _media(
    const uint8_t *message,
    int size,
    const uint8_t *sid,
    int sid_bytes,
    long long *timestamp_ms,
    const uint8_t **payload,
    int *payload_bytes,
    int *audio_bytes,
) noexcept nogil:
    """Recognise the usual `media` message of this stream: the forms that `split_media` takes."""
    cdef const uint8_t *end = message + size
    cdef const uint8_t *at
    cdef const uint8_t *next_
    cdef long long ignored
    cdef bint sid_seen = False
    cdef int length, pads = 0
    at = _word(message, end, '{"event"', 8)
    at = _sign(at, end, c':')
    at = _word(at, end, '"media"', 7)
    at = _sign(at, end, c',')
    at = _word(at, end, '"sequenceNumber"', 16)
    at = _sign(at, end, c':')
    at = _count(at, end, &ignored)
    at = _sign(at, end, c',')
    if at == NULL:
        return False
    next_ = _sid(at, end, sid, sid_bytes)
    if next_ != NULL:
        sid_seen = True
        at = _sign(next_, end, c',')
    at = _word(at, end, '"media"', 7)
    at = _sign(at, end, c':')
    at = _word(at, end, '{"track"', 8)
    at = _sign(at, end, c':')
    at = _word(at, end, '"inbound"', 9)
    at = _sign(at, end, c',')
    at = _word(at, end, '"chunk"', 7)
    at = _sign(at, end, c':')
    at = _count(at, end, &ignored)
    at = _sign(at, end, c',')
    at = _word(at, end, '"timestamp"', 11)
    at = _sign(at, end, c':')
    at = _count(at, end, timestamp_ms)
    at = _sign(at, end, c',')
    at = _word(at, end, '"payload"', 9)
    at = _sign(at, end, c':')
    at = _word(at, end, '"', 1)
    if at == NULL:
        return False
    payload[0] = at
    while at < end and BASE64_VALUE[at[0]] != 255:
        at += 1
    while at < end and at[0] == c'=' and pads < 3:
        at += 1
        pads += 1
    length = <int>(at - payload[0])
    if length == 0 or length & 3 or pads > 2:
        return False
    payload_bytes[0] = length
    audio_bytes[0] = length // 4 * 3 - pads
    at = _word(at, end, '"}', 2)
    if not sid_seen:
        at = _sign(at, end, c',')
        at = _sid(at, end, sid, sid_bytes)
    at = _word(at, end, '}', 1)
    return at == end


cdef int _decode_base64(const uint8_t *text, int size, uint8_t *out) noexcept nogil:
    """`size` characters that `_media` has checked. Returns the bytes."""
    cdef int i = 0, made = 0, last
    cdef uint32_t group
    last = size - 4
    while i < last:
        group = (
            BASE64_VALUE[text[i]] << 18 | BASE64_VALUE[text[i + 1]] << 12
            | BASE64_VALUE[text[i + 2]] << 6 | BASE64_VALUE[text[i + 3]]
        )
        out[made] = group >> 16
        out[made + 1] = group >> 8 & 255
        out[made + 2] = group & 255
        made += 3
        i += 4
    group = BASE64_VALUE[text[i]] << 18 | BASE64_VALUE[text[i + 1]] << 12
    out[made] = group >> 16
    made += 1
    if text[i + 2] != c'=':
        group |= BASE64_VALUE[text[i + 2]] << 6
        out[made] = group >> 8 & 255
        made += 1
        if text[i + 3] != c'=':
            out[made] = (group | BASE64_VALUE[text[i + 3]]) & 255
            made += 1
    return made


cdef int _encode_base64(const uint8_t *data, int size, uint8_t *out) noexcept nogil:
    cdef int i = 0, made = 0
    cdef uint32_t group
    while i + 3 <= size:
        group = data[i] << 16 | data[i + 1] << 8 | data[i + 2]
        out[made] = ALPHABET[group >> 18]
        out[made + 1] = ALPHABET[group >> 12 & 63]
        out[made + 2] = ALPHABET[group >> 6 & 63]
        out[made + 3] = ALPHABET[group & 63]
        i += 3
        made += 4
    if i < size:
        group = data[i] << 16 | (data[i + 1] << 8 if i + 1 < size else 0)
        out[made] = ALPHABET[group >> 18]
        out[made + 1] = ALPHABET[group >> 12 & 63]
        out[made + 2] = ALPHABET[group >> 6 & 63] if i + 1 < size else c'='
        out[made + 3] = c'='
        made += 4
    return made


cdef void _mask(uint8_t *data, int size, const uint8_t *key) noexcept nogil:
    cdef int i
    cdef uint32_t word
    memcpy(&word, key, 4)
    cdef uint32_t *words = <uint32_t *>data
    for i in range(size // 4):
        words[i] ^= word
    for i in range(size & ~3, size):
        data[i] ^= key[i & 3]


include "_outlet.pxi"


cdef class Intake:
    """Waits for the sockets of a worker, reads them, carries the usual caller audio across and sends the usual
    agent audio by itself.

    The interface, and what each method promises, is `gateway.intake.Intake`'s.
    """

    cdef object _epoll, _clock
    cdef int _epoll_fd
    cdef list _by_fd
    cdef uint8_t *_in
    cdef uint8_t *_out
    cdef uint8_t *_keys
    cdef int _key_at
    cdef int16_t _linear[256]
    cdef public list samples
    cdef public long long relayed_frames
    cdef public double busy_s
    cdef int _sample_every

    def __cinit__(self, epoll, clock, bytes linear_of_ulaw, int sample_every):
        self._epoll, self._clock = epoll, clock
        self._epoll_fd = epoll.fileno()
        self._by_fd = []
        self.samples = []
        self._sample_every = sample_every
        self._in = <uint8_t *>malloc(RECEIVE_MAX)
        self._out = <uint8_t *>malloc(OUT_MAX)
        self._keys = <uint8_t *>malloc(KEYS_BYTES)
        self._key_at = KEYS_BYTES
        if self._in == NULL or self._out == NULL or self._keys == NULL:
            raise MemoryError
        if PyBytes_GET_SIZE(linear_of_ulaw) != 512:
            raise ValueError("256 samples of 16 bits are needed")
        memcpy(self._linear, PyBytes_AS_STRING(linear_of_ulaw), 512)

    def __dealloc__(self):
        free(self._in)
        free(self._out)
        free(self._keys)

    # ---- which sockets -------------------------------------------------------------------------

    def watch(self, sock):
        cdef int fd = sock.fileno()
        while len(self._by_fd) <= fd:
            self._by_fd.append(None)
        self._by_fd[fd] = True

    def forget(self, int fd):
        if fd < len(self._by_fd):
            found = self._by_fd[fd]
            if type(found) is Lane:
                (<Lane>found).is_open = False
            self._by_fd[fd] = None

    def join(self, int caller_fd, int agent_fd, write, CallerFlow flow, bytes stream_sid, fir, bint is_pcm, owner):
        """From now on the usual audio of this caller leg goes to that agent leg by itself."""
        cdef Lane lane = Lane()
        lane.caller_fd, lane.agent_fd, lane.write = caller_fd, agent_fd, write
        lane.flow, lane.stream_sid, lane.owner = flow, stream_sid, owner
        lane.fir, lane.is_pcm = fir, is_pcm
        lane.is_open = True
        self._by_fd[caller_fd] = lane

    def part(self, int caller_fd):
        """No longer: its bytes go to the bridge."""
        found = self._by_fd[caller_fd]
        if type(found) is Lane:
            (<Lane>found).is_open = False
            self._by_fd[caller_fd] = True

    # ---- waiting -------------------------------------------------------------------------------

    def poll(self, double wait_s, double pause_s, int batch) -> list:
        """Wait up to `wait_s` until something is to be done in Python; `(fd, mask, data)` each."""
        cdef epoll_event events[EVENTS_MAX]
        cdef list rest = []
        cdef double end_s = _mono() + wait_s
        cdef double left_s = wait_s, began_s, now_s, pause
        cdef int count, i, fd, known, timeout_ms
        cdef uint32_t mask
        cdef timespec nap
        while True:
            timeout_ms = <int>(left_s * 1000.0 + 0.999) if left_s > 0.0 else 0
            with nogil:
                count = epoll_wait(self._epoll_fd, events, EVENTS_MAX, timeout_ms)
            if count < 0:
                if errno == EINTR:
                    return rest
                raise OSError(errno, "epoll_wait")
            if count:
                began_s = _mono()
                now_s = self._clock()
                known = len(self._by_fd)
                for i in range(count):
                    fd, mask = events[i].data.fd, events[i].events
                    found = self._by_fd[fd] if fd < known else None
                    if mask & ~EPOLLOUT == 0 or found is None:
                        rest.append((fd, mask, None))
                    elif type(found) is Lane:
                        self._carry(<Lane>found, mask, rest, now_s, began_s)
                    else:
                        self._receive(fd, mask, rest)
                self.busy_s += _mono() - began_s
            if rest:
                return rest
            left_s = end_s - _mono()
            if left_s <= 0.0:
                return rest
            if pause_s > 0.0 and count < batch:
                pause = min(pause_s * (1.0 - <double>count / batch), left_s)
                nap.tv_sec = 0
                nap.tv_nsec = <long>(pause * 1e9)
                with nogil:
                    nanosleep(&nap, NULL)
                left_s = end_s - _mono()

    def tick(self, list outlets, double now_s) -> list:
        """Send what playout has due; `(owner, unsent)` for what is left to be done in Python."""
        return _tick(outlets, now_s, self._out)

    cdef _receive(self, int fd, uint32_t mask, list rest):
        cdef ssize_t size = recv(fd, self._in, RECEIVE_MAX, MSG_DONTWAIT)
        if size >= 0:
            rest.append((fd, mask, PyBytes_FromStringAndSize(<char *>self._in, size)))
        elif errno != EAGAIN and errno != EINTR:
            rest.append((fd, mask, errno))
        elif mask & EPOLLOUT:
            rest.append((fd, EPOLLOUT, None))

    cdef _carry(self, Lane lane, uint32_t mask, list rest, double now_s, double began_s):
        """What the caller's socket holds: the usual frames across, the rest to the bridge."""
        cdef ssize_t size, sent
        cdef int used = 0, made, length, frame_bytes, frames = 0
        cdef uint8_t *at
        if mask & EPOLLOUT or not lane.is_open:
            self._receive(lane.caller_fd, mask, rest)
            return
        size = recv(lane.caller_fd, self._in, RECEIVE_MAX, MSG_DONTWAIT)
        if size <= 0:
            if size == 0:
                rest.append((lane.caller_fd, mask, b""))
            elif errno != EAGAIN and errno != EINTR:
                rest.append((lane.caller_fd, mask, errno))
            return
        made = 0
        if self._key_at > KEYS_BYTES - 4 * FRAMES_MAX:
            keys = os.urandom(KEYS_BYTES)
            memcpy(self._keys, PyBytes_AS_STRING(keys), KEYS_BYTES)
            self._key_at = 0
        while frames < FRAMES_MAX and size - used >= 8:
            at = self._in + used
            if at[0] != 0x81 or at[1] != 0xFE:
                break
            length = at[2] << 8 | at[3]
            if length < 126 or length > MESSAGE_MAX or size - used - 8 < length:
                break
            frame_bytes = self._frame(lane, at, length, self._out + made, now_s)
            if frame_bytes < 0:
                break
            used += 8 + length
            made += frame_bytes
            frames += 1
        if frames:
            lane.flow.heard_s = now_s
            self.relayed_frames += frames
        if made:
            if lane.write is None:
                sent = send(lane.agent_fd, self._out, made, MSG_DONTWAIT | MSG_NOSIGNAL)
                if sent < 0:
                    sent = 0
            else:
                sent = self._encrypt(lane, made)
            if sent < made:
                # In order: what follows goes the long way until the bridge says otherwise.
                rest.append((lane.agent_fd, 0, PyBytes_FromStringAndSize(<char *>self._out + sent, made - sent)))
                self.part(lane.caller_fd)
            if lane.flow.sent_frames % self._sample_every == 0:
                self.samples.append((lane.owner, (_mono() - began_s) * 1000.0))
        if used < size:
            rest.append((lane.caller_fd, mask, PyBytes_FromStringAndSize(<char *>self._in + used, size - used)))

    cdef ssize_t _encrypt(self, Lane lane, int made):
        """One TLS record for what is in `_out`; the bytes that were taken. Why none were, the plane finds out:
        it tries the same bytes again, as OpenSSL wants it."""
        try:
            return lane.write(PyBytes_FromStringAndSize(<char *>self._out, made))
        except OSError:  # WANT_WRITE, and all that ssl raises
            return 0

    cdef int _frame(self, Lane lane, uint8_t *frame, int length, uint8_t *out, double now_s) noexcept:
        """One masked frame at `frame` into one for the agent at `out`; its bytes, or -1 and nothing is changed."""
        cdef uint8_t message[MESSAGE_MAX + 8]
        cdef uint8_t audio[AUDIO_MAX]
        cdef int16_t samples[SAMPLES_MAX]
        cdef int16_t linear[AUDIO_MAX]
        cdef const uint8_t *payload = NULL
        cdef int payload_bytes = 0, audio_bytes = 0, i, made, body
        cdef long long timestamp_ms = 0
        cdef CallerFlow flow = lane.flow
        cdef const uint8_t *key
        cdef uint8_t *text
        memcpy(message, frame + 8, length)
        _mask(message, length, frame + 4)
        if not _media(
            message, length,
            <const uint8_t *>PyBytes_AS_STRING(lane.stream_sid), <int>PyBytes_GET_SIZE(lane.stream_sid),
            &timestamp_ms, &payload, &payload_bytes, &audio_bytes,
        ):
            return -1
        if audio_bytes > AUDIO_MAX or not flow.place(<double>timestamp_ms, audio_bytes / 8.0, now_s):
            return -1
        flow.frames += 1
        flow.sent_frames += 1
        flow.sent_ms += audio_bytes / 8.0
        text = out + 8 + ENVELOPE_BYTES
        if lane.is_pcm:
            _decode_base64(payload, payload_bytes, audio)
            for i in range(audio_bytes):
                linear[i] = self._linear[audio[i]]
            if lane.fir is None:
                made = audio_bytes
                memcpy(samples, linear, audio_bytes * 2)
            else:
                made = lane.fir.run(linear, audio_bytes, samples)
            if not made:
                return 0
            payload_bytes = _encode_base64(<uint8_t *>samples, made * 2, text)
        else:
            memcpy(text, payload, payload_bytes)
        memcpy(out + 8, ENVELOPE, ENVELOPE_BYTES)
        memcpy(text + payload_bytes, '"}', 2)
        body = ENVELOPE_BYTES + payload_bytes + 2
        key = self._keys + self._key_at
        self._key_at += 4
        if body < 126:
            # Shorter than the header it was given room for: move it down.
            memmove(out + 6, out + 8, body)
            out[0], out[1] = 0x81, <uint8_t>(0x80 | body)
            memcpy(out + 2, key, 4)
            _mask(out + 6, body, key)
            return body + 6
        out[0], out[1] = 0x81, 0xFE
        out[2], out[3] = <uint8_t>(body >> 8), <uint8_t>(body & 255)
        memcpy(out + 4, key, 4)
        _mask(out + 8, body, key)
        return body + 8
