# Part of gateway/_express.pyx: agent audio on its way to the caller leg without a line of Python.
#
# `Playout` is `gateway.playout.PlainPlayout`, `Outlet` is `gateway.outlet.PlainOutlet`: what every name means
# is said there. The arithmetic is the same, operation by operation, so both give the same bytes at the same time.

cdef double UNDERRUN_MAX_GAP_S = 2.0
cdef double BURSTINESS_DECAY = 0.9
cdef double UNDERRUN_TOLERANCE_S = 0.002
cdef double BYTES_PER_S = 8000.0
cdef double INFINITE = float("inf")

cdef const char *MEDIA_HEAD = '{"event":"media","streamSid":"'
cdef const char *MEDIA_BODY = '","media":{"payload":"'
cdef const char *MEDIA_TAIL = '"}}'
cdef const char *MARK_HEAD = '{"event":"mark","streamSid":"'
cdef const char *MARK_BODY = '","mark":{"name":"'
cdef enum:
    OUTLET_AUDIO_MAX = 32768    # µ-law bytes in one message
    SID_MAX = 64
    OUTLET_MAX = 4 + 64 + SID_MAX + (OUTLET_AUDIO_MAX + 2) // 3 * 4 + 4 + 64 + SID_MAX + 64


cdef class Pace:
    cdef public int frames

    def __init__(self, int frames=1):
        self.frames = frames


cdef class Playout:
    cdef list _chunks
    cdef Py_ssize_t _offset
    cdef long long _frame_bytes, _queue_max_bytes
    cdef double _frame_s, _lead_max_s, _lead_min_s, _prebuffer_max_s
    cdef double _next_push_due_s, _started_s
    cdef bint _mid_turn
    cdef Pace _pace
    cdef public double burstiness_s
    cdef readonly double due_s, horizon_s, late_ms, lead_s, underrun_ms
    cdef readonly long long flushed_bytes, overrun_bytes, pushed_bytes, queued_bytes, sent_bytes
    cdef readonly long long late_underruns, underruns

    def __init__(self, settings, Pace pace=None):
        self._pace = pace or Pace()
        self._frame_s = settings.frame_ms / 1000.0
        self._frame_bytes = settings.frame_ms * 8
        self._lead_min_s = settings.lead_ms / 1000.0
        self._lead_max_s = settings.lead_max_ms / 1000.0
        self._prebuffer_max_s = settings.prebuffer_max_ms / 1000.0
        self._queue_max_bytes = settings.playout_max_ms * 8
        self._chunks = []
        self.lead_s = self._lead_min_s
        self.horizon_s = -INFINITE
        self.due_s = INFINITE

    # ---- in ------------------------------------------------------------------------------------

    def push(self, bytes ulaw, double now_s):
        cdef long long size = PyBytes_GET_SIZE(ulaw)
        cdef long long room = self._queue_max_bytes - self.queued_bytes
        self.pushed_bytes += size
        if size > room:
            self.overrun_bytes += size - room
            ulaw = ulaw[:room]
            size = room
        if not size:
            return 0
        self._note_arrival(size, now_s)
        self._chunks.append(ulaw)
        self.queued_bytes += size
        return size

    def fill(self, bytes ulaw, double now_s):
        cdef long long size = PyBytes_GET_SIZE(ulaw)
        if self.queued_bytes:
            return 0
        self._mid_turn = False
        if self.horizon_s < now_s:
            self.horizon_s = now_s
            self._started_s = now_s - self._frame_s
        self._chunks.append(ulaw)
        self.pushed_bytes += size
        self.queued_bytes = size
        self.due_s = now_s
        return size

    def end_turn(self):
        self._mid_turn = False

    cdef void _note_arrival(self, long long size, double now_s) noexcept:
        cdef double begin_s = now_s, late_s, gap_s
        cdef bint was_mid_turn
        if self._mid_turn:
            late_s = now_s - self._next_push_due_s
            if late_s < UNDERRUN_MAX_GAP_S:
                self.burstiness_s = max(late_s, self.burstiness_s * BURSTINESS_DECAY, 0.0)
                self.lead_s = min(self._lead_min_s + self.burstiness_s, self._lead_max_s)
            begin_s = max(self._next_push_due_s, now_s)
        self._next_push_due_s = begin_s + size / BYTES_PER_S
        was_mid_turn, self._mid_turn = self._mid_turn, True
        if self.queued_bytes:
            self.due_s = min(self.due_s, max(self.horizon_s - self.lead_s + self._frame_s / 2, now_s))
            return
        gap_s = now_s - self.horizon_s
        if was_mid_turn and UNDERRUN_TOLERANCE_S < gap_s < UNDERRUN_MAX_GAP_S:
            self.underruns += 1
            self.underrun_ms += gap_s * 1000.0
        if gap_s > 0.0:
            self._started_s = now_s
            self.due_s = now_s
        else:
            self.due_s = self.horizon_s - self.lead_s + self._frame_s / 2

    # ---- out -----------------------------------------------------------------------------------

    def take(self, double now_s):
        cdef long long size = self._size_due(now_s)
        if not size:
            return b""
        cdef bytes audio = PyBytes_FromStringAndSize(NULL, size)
        self._take(<uint8_t *>PyBytes_AS_STRING(audio), size)
        return audio

    cdef long long _size_due(self, double now_s) noexcept:
        """The bytes that `_take` has to be asked for at this time."""
        cdef long long queued = self.queued_bytes, size, frames
        cdef double lead_s
        if not queued:
            self.due_s = INFINITE
            return 0
        lead_s = self.horizon_s - now_s
        if lead_s <= 0.0:
            if self.horizon_s <= self._started_s and self._holds_back(now_s):
                return 0
            if lead_s < -UNDERRUN_TOLERANCE_S and self.horizon_s > self._started_s:
                self.late_underruns += 1
                self.late_ms -= lead_s * 1000.0
            lead_s = 0.0
            self.horizon_s = now_s
        frames = <long long>((self.lead_s - lead_s) / self._frame_s + 0.5)
        if frames < self._pace.frames:
            self.due_s = self._next_due_s()
            if frames <= 0 or self.due_s > now_s:
                return 0
        size = frames * self._frame_bytes
        if size > queued:
            size = queued if lead_s <= self._frame_s else queued - queued % self._frame_bytes
            if not size:
                self.due_s = self.horizon_s - self._frame_s
        return size

    cdef void _take(self, uint8_t *out, long long size):
        """Take `size` bytes off the front of the queue (there are that many)."""
        cdef bytes chunk
        cdef long long left = size, some
        while left:
            chunk = <bytes>self._chunks[0]
            some = min(PyBytes_GET_SIZE(chunk) - self._offset, left)
            memcpy(out, PyBytes_AS_STRING(chunk) + self._offset, some)
            out += some
            left -= some
            self._offset += some
            if self._offset == PyBytes_GET_SIZE(chunk):
                del self._chunks[0]
                self._offset = 0
        self.sent_bytes += size
        self.queued_bytes -= size
        self.horizon_s += size / BYTES_PER_S
        if not self.queued_bytes:
            self.due_s = INFINITE
        elif self.queued_bytes < self._frame_bytes:
            self.due_s = self.horizon_s - self._frame_s
        else:
            self.due_s = self._next_due_s()

    cdef double _next_due_s(self) noexcept:
        cdef double room_s = max(self.lead_s - 2 * self._frame_s, self._frame_s)
        return (
            self.horizon_s
            - self.lead_s
            + min((self._pace.frames - 0.5) * self._frame_s, room_s - 0.5 * self._frame_s)
        )

    cdef bint _holds_back(self, double now_s) noexcept:
        cdef double wait_s = max(min(self.burstiness_s, self._prebuffer_max_s), self._frame_s)
        if self.queued_bytes >= wait_s * BYTES_PER_S or now_s - self._started_s >= wait_s:
            return False
        self.due_s = self._started_s + wait_s
        return True

    def flush(self, double now_s):
        cdef long long unheard = self._unheard_bytes(now_s), queued = self.queued_bytes
        self.flushed_bytes += queued
        self._chunks.clear()
        self._offset = 0
        self.queued_bytes = 0
        self.horizon_s = min(self.horizon_s, now_s)
        self.due_s = INFINITE
        self._mid_turn = False
        return queued, unheard

    cdef long long _unheard_bytes(self, double now_s) noexcept:
        cdef double lead_s = self.horizon_s - now_s
        return min(<long long>(lead_s * BYTES_PER_S + 0.5), self.sent_bytes) if lead_s > 0.0 else 0

    def unheard_bytes(self, double now_s):
        return self._unheard_bytes(now_s)

    def remaining_s(self, double now_s):
        return max(self.horizon_s - now_s, 0.0) + self.queued_bytes / BYTES_PER_S


cdef class Outlet:
    cdef public double due_s
    cdef public bint plays, is_usual
    cdef public object owner
    cdef public long long messages, marks_sent, marked_bytes, epoch
    cdef readonly Playout playout
    cdef long long _mark_bytes
    cdef list _out
    cdef int _fd
    cdef bytes _stream_sid

    def __init__(self, Playout playout, list out, long long mark_bytes):
        self.playout, self._out, self._mark_bytes = playout, out, mark_bytes
        self.due_s = INFINITE
        self._fd = -1

    @property
    def next_s(self):
        return min(self.due_s, self.playout.due_s) if self.plays else self.due_s

    @property
    def wants_mark(self):
        return self.playout.sent_bytes - self.marked_bytes >= self._mark_bytes

    def open(self, int caller_fd, bytes stream_sid, /):
        if PyBytes_GET_SIZE(stream_sid) <= SID_MAX:
            self._fd, self._stream_sid = caller_fd, stream_sid

    def close(self):
        self._fd = -1

    cdef bint _may_send(self) noexcept:
        return (
            self._fd >= 0
            and self.is_usual
            and not PyList_GET_SIZE(self._out)
            and self.playout._lead_max_s * BYTES_PER_S + self.playout._frame_bytes <= OUTLET_AUDIO_MAX
        )

    cdef bytes _send(self, double now_s, uint8_t *out):
        """`gateway.downlink.Downlink.play`, and the socket. Returns what the socket did not take, or None."""
        cdef uint8_t audio[OUTLET_AUDIO_MAX]
        cdef Playout playout = self.playout
        cdef long long size = playout._size_due(now_s)
        cdef int made, sid_bytes = <int>PyBytes_GET_SIZE(self._stream_sid)
        cdef const char *sid = PyBytes_AS_STRING(self._stream_sid)
        cdef char name[64]
        cdef uint8_t *at
        cdef ssize_t sent
        if not size:
            return None
        playout._take(audio, size)
        at = out + 4
        at = _append(at, MEDIA_HEAD, 30)
        at = _append(at, sid, sid_bytes)
        at = _append(at, MEDIA_BODY, 22)
        at += _encode_base64(audio, <int>size, at)
        at = _append(at, MEDIA_TAIL, 3)
        made = _head(out, <int>(at - out - 4))
        self.messages += 1
        if playout.sent_bytes - self.marked_bytes >= self._mark_bytes or not playout.queued_bytes:
            at = out + made + 4
            at = _append(at, MARK_HEAD, 29)
            at = _append(at, sid, sid_bytes)
            at = _append(at, MARK_BODY, 18)
            at = _append(at, name, snprintf(name, 64, "%lld:%lld", self.epoch, playout.sent_bytes))
            at = _append(at, MEDIA_TAIL, 3)
            made += _head(out + made, <int>(at - out - made - 4))
            self.marks_sent += 1
            self.marked_bytes = playout.sent_bytes
        sent = send(self._fd, out, made, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent == made:
            return None
        sent = max(sent, 0)  # why it took nothing, the plane finds out: it tries the same bytes again
        return PyBytes_FromStringAndSize(<char *>out + sent, made - sent)


cdef inline uint8_t *_append(uint8_t *at, const char *text, int size) noexcept nogil:
    memcpy(at, text, size)
    return at + size


cdef int _head(uint8_t *frame, int body) noexcept nogil:
    """A text frame's header before the `body` bytes that were put behind room for the usual one; the frame's size."""
    frame[0] = 0x81
    if body < 126:
        memmove(frame + 2, frame + 4, body)
        frame[1] = <uint8_t>body
        return body + 2
    frame[1] = 126
    frame[2], frame[3] = <uint8_t>(body >> 8), <uint8_t>(body & 255)
    return body + 4


cdef list _tick(list outlets, double now_s, uint8_t *out):
    cdef list rest = []
    cdef Outlet outlet
    cdef bytes unsent
    for outlet in outlets:
        if outlet.due_s <= now_s:
            rest.append((outlet.owner, None))
        elif outlet.plays and outlet.playout.due_s <= now_s:
            if not outlet._may_send():
                rest.append((outlet.owner, None))
                continue
            try:
                unsent = outlet._send(now_s, out)
            except Exception:
                rest.append((outlet.owner, None))  # to the boundary around this call, the others go on
                continue
            if unsent is not None:
                rest.append((outlet.owner, unsent))
    return rest
