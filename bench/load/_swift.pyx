# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What the generator does for every frame, compiled: without it two thirds of the calls fit on its core.

Optional, like all that is compiled here; `bench.load.hot` says what is used instead.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int fd, const void *buf, size_t size, int flags)
    int setsockopt(int fd, int level, int name, const void *value, unsigned int size)
    enum: MSG_DONTWAIT
    enum: MSG_NOSIGNAL
    enum: SOL_SOCKET
    enum: SO_TIMESTAMPNS
    enum: SCM_TIMESTAMPNS
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    ssize_t recvmsg(int fd, msghdr *message, int flags)
    cmsghdr *CMSG_FIRSTHDR(msghdr *message)
    cmsghdr *CMSG_NXTHDR(msghdr *message, cmsghdr *now)
    unsigned char *CMSG_DATA(cmsghdr *now)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *now)
    enum: CLOCK_MONOTONIC
    enum: CLOCK_REALTIME

cdef extern from *:
    """
    #ifdef __GNUC__
    #define TANDEM_SOON(at) __builtin_prefetch(at)
    #else
    #define TANDEM_SOON(at)
    #endif
    """
    void soon "TANDEM_SOON"(const void *at) nogil

cdef enum:
    IN_MAX = 65536
    FRAME_MAX = 4096
    READ = 1
    EVENTS_MAX = 1024
    WORDS_MAX = 256         # of the kernel, beside what was received
    RELAYED_MIN = 200       # as in bench.load.agents

cdef uint8_t received[IN_MAX]
cdef uint8_t frame[FRAME_MAX]
cdef double behind_s = 0.0
"""From the clock of the kernel's stamps to ours."""


cdef inline double now() noexcept nogil:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return at.tv_sec + at.tv_nsec * 1e-9


cdef void compare_clocks() noexcept nogil:
    global behind_s
    cdef timespec at
    clock_gettime(CLOCK_REALTIME, &at)
    behind_s = now() - (at.tv_sec + at.tv_nsec * 1e-9)


cdef void ask_for_stamps(int fd) noexcept nogil:
    """See socket(7) and timestamping.txt of the kernel's documentation. Refused, our own clock has to do."""
    cdef int yes = 1
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof(yes))


cdef ssize_t receive(int fd, double *at_s) noexcept nogil:
    """Into `received`; when the kernel got the last of it: how late we look shall not count as the target's lateness."""
    cdef iovec place
    cdef msghdr message
    cdef cmsghdr *word
    cdef timespec stamp
    cdef uint8_t words[WORDS_MAX]
    cdef ssize_t size
    place.iov_base, place.iov_len = received, IN_MAX
    message.msg_name, message.msg_namelen = NULL, 0
    message.msg_iov, message.msg_iovlen = &place, 1
    message.msg_control, message.msg_controllen = words, WORDS_MAX
    message.msg_flags = 0
    size = recvmsg(fd, &message, MSG_DONTWAIT)
    at_s[0] = now()
    if size > 0:
        word = CMSG_FIRSTHDR(&message)
        while word != NULL:
            if word.cmsg_level == SOL_SOCKET and word.cmsg_type == SCM_TIMESTAMPNS:
                memcpy(&stamp, CMSG_DATA(word), sizeof(stamp))
                at_s[0] = min(at_s[0], stamp.tv_sec + stamp.tv_nsec * 1e-9 + behind_s)
            word = CMSG_NXTHDR(&message, word)
    return size


cdef class Times:
    """Instants in seconds; grows by doubling."""

    cdef double *data
    cdef Py_ssize_t size, room

    def __cinit__(self):
        self.room = 64
        self.data = <double *>malloc(self.room * sizeof(double))

    def __dealloc__(self):
        free(self.data)

    cpdef append(self, double at_s):
        if self.size == self.room:
            self.room *= 2
            self.data = <double *>realloc(self.data, self.room * sizeof(double))
            if self.data == NULL:
                raise MemoryError
        self.data[self.size] = at_s
        self.size += 1

    def __len__(self):
        return self.size

    def raw(self) -> bytes:
        return PyBytes_FromStringAndSize(<char *>self.data, self.size * sizeof(double))


cdef class ClockState:
    """The numbers of `PlayoutClock`, and its `push`."""

    cdef public double horizon_s
    cdef public long long received_bytes
    cdef public long position
    cdef public long turn_bytes

    cpdef double push(self, long size, double now_s):
        cdef double lead_s = self.horizon_s - now_s
        cdef long position = self.position
        cdef bint at_begin = position <= 80 or position >= self.turn_bytes - 80
        self.received_bytes += size
        if lead_s < 0.0:
            self.horizon_s = now_s
            if at_begin:
                position = 0
                lead_s = float("inf")
            elif lead_s > -0.001:
                lead_s = 0.0
        elif at_begin:
            lead_s = float("inf")
        self.horizon_s += size / 8000.0
        position += size
        while position >= self.turn_bytes + 80:
            position -= self.turn_bytes
        self.position = position
        return lead_s


cdef class StreamHot:
    """A caller's frames out, the agent's audio in. All else goes to the Python of `Stream`."""

    cdef int fd
    cdef public long k
    cdef public bint is_blocked
    cdef public bint is_split
    cdef public bytes prefix
    cdef bytes tail_0, tail_1, tail_2, tail_3
    cdef Times sent_at, lead_s, lead_at_s
    cdef ClockState clock
    cdef object stream

    def __init__(self, stream, int fd, tails, Times sent_at, ClockState clock, Times lead_s, Times lead_at_s):
        self.stream, self.fd, self.sent_at, self.clock = stream, fd, sent_at, clock
        self.tail_0, self.tail_1, self.tail_2, self.tail_3 = tails
        self.lead_s, self.lead_at_s = lead_s, lead_at_s
        self.prefix = b""
        ask_for_stamps(fd)

    cpdef frame(self, list heads):
        """Send the next 20 ms."""
        cdef bytes head, tail
        cdef int phase
        cdef Py_ssize_t size, tail_bytes, sent = 0
        head, phase = heads[self.k]
        tail = self.tail_0 if phase == 0 else self.tail_1 if phase == 1 else self.tail_2 if phase == 2 else self.tail_3
        self.k += 1
        size, tail_bytes = PyBytes_GET_SIZE(head), PyBytes_GET_SIZE(tail)
        memcpy(frame, PyBytes_AS_STRING(head), size)
        memcpy(frame + size, PyBytes_AS_STRING(tail), tail_bytes)
        size += tail_bytes
        self.sent_at.append(now())
        if not self.is_blocked:
            sent = send(self.fd, frame, size, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent < 0:
                if errno != EAGAIN:
                    self.stream.lose(f"errno {errno}")
                    return
                sent = 0
        if sent != size:
            self.stream.keep(PyBytes_FromStringAndSize(<char *>frame + sent, size - sent))

    cpdef ready(self, int mask):
        """One receive; whole frames of audio are counted here."""
        cdef ssize_t size
        cdef Py_ssize_t used = 0, length, body, first, last, prefix_bytes
        cdef uint8_t *at
        cdef uint8_t *quote
        cdef const char *prefix
        cdef long audio
        cdef double at_s, lead_s
        if mask != READ or self.is_split or not self.prefix:
            self.stream._ready(mask)
            return
        size = receive(self.fd, &at_s)
        if size < 0:
            if errno != EAGAIN:
                self.stream.lose(f"errno {errno}")
            return
        if size == 0:
            self.stream.lose("closed by the peer")
            return
        prefix = PyBytes_AS_STRING(self.prefix)
        prefix_bytes = PyBytes_GET_SIZE(self.prefix)
        while size - used >= 4:
            at = received + used
            length, body = at[1], 2
            if length == 126:
                length, body = at[2] << 8 | at[3], 4
            elif length == 127:
                break
            if size - used < body + length or length < prefix_bytes:
                break
            if memcmp(at + body, prefix, prefix_bytes) != 0:
                break
            quote = <uint8_t *>memchr(at + body + prefix_bytes, c'"', length - prefix_bytes)
            if quote == NULL:
                break
            last = quote - (at + body + prefix_bytes)
            audio = last * 3 // 4
            if (quote - 1)[0] == c'=':
                audio -= 2 if (quote - 2)[0] == c'=' else 1
            lead_s = self.clock.push(audio, at_s)
            if lead_s != float("inf"):
                self.lead_s.append(lead_s)
                self.lead_at_s.append(at_s)
            used += body + length
        if used < size:
            self.stream._take(PyBytes_FromStringAndSize(<char *>received + used, size - used), at_s)


cdef class AgentHot:
    """Frames of caller audio that look like the last one, or Twilio's own words passed on by a relay: counted
    and timed. All else goes to `Agent`."""

    cdef int fd
    cdef public long usual
    cdef public bint is_split
    cdef bint is_relayed
    cdef public long long audio_bytes
    cdef public double next_middle
    cdef public long k
    cdef long frame_bytes, check_every
    cdef Times arrived
    cdef object agent

    def __init__(self, agent, int fd, long frame_bytes, Times arrived, long check_every, bint is_relayed):
        self.agent, self.fd, self.frame_bytes, self.arrived = agent, fd, frame_bytes, arrived
        self.is_relayed = is_relayed
        self.check_every = check_every
        self.next_middle = frame_bytes / 2
        ask_for_stamps(fd)

    cpdef ready(self, int mask):
        """One receive; whole frames of the usual size are counted here."""
        cdef ssize_t size
        cdef Py_ssize_t used = 0, whole
        cdef uint8_t *at
        cdef double at_s
        if mask != READ or self.is_split or not (self.usual or self.is_relayed):
            self.agent._ready(mask)
            return
        size = receive(self.fd, &at_s)
        if size < 0:
            if errno != EAGAIN:
                self.agent.lose(f"errno {errno}")
            return
        if size == 0:
            self.agent.lose("closed by the peer")
            return
        while self.is_relayed and size - used > 8:
            # `{"event":"media"` of some length, told by two of its characters, as `Agent` tells it.
            at = received + used
            whole = 8 + (at[2] << 8 | at[3])
            if at[1] != 0xFE or whole <= 8 + RELAYED_MIN or size - used < whole:
                break
            if at[10] ^ at[6] != c'e' or at[18] ^ at[6] != c'm':
                break
            self.audio_bytes += self.frame_bytes
            while self.audio_bytes > self.next_middle:
                self.next_middle += self.frame_bytes
                self.arrived.append(at_s)
                self.k += 1
            used += whole
        while self.usual and size - used >= self.usual:
            at = received + used
            if at[1] != 0xFE or (at[2] << 8 | at[3]) != self.usual - 8 or at[10] ^ at[6] != c'u':
                break
            self.arrived.append(at_s)
            self.audio_bytes += self.frame_bytes
            self.next_middle += self.frame_bytes
            self.k += 1
            if self.k % self.check_every == 0:
                self.agent._check_frame(PyBytes_FromStringAndSize(<char *>at, self.usual))
            used += self.usual
        if used < size:
            self.agent._take(PyBytes_FromStringAndSize(<char *>received + used, size - used), at_s)


def speak(list streams, list heads):
    """All of a slot send their next 20 ms.

    Between two frames of a call so much else is touched that nothing of it is in the processor's caches; so what
    those a few places ahead will need is asked for meanwhile.
    """
    cdef Py_ssize_t i, count = len(streams)
    cdef StreamHot ahead
    for i in range(count):
        if i + 6 < count:
            soon(PyList_GET_ITEM(streams, i + 6))
            soon(<char *>PyList_GET_ITEM(streams, i + 6) + 64)
        if i + 4 < count:
            ahead = <StreamHot>PyList_GET_ITEM(streams, i + 4)
            soon(<void *>ahead.sent_at)
            soon(<void *>ahead.tail_0)
        if i + 2 < count:
            ahead = <StreamHot>PyList_GET_ITEM(streams, i + 2)
            soon(ahead.sent_at.data + ahead.sent_at.size)
        (<StreamHot>PyList_GET_ITEM(streams, i)).frame(heads)


cdef class Look:
    """The loop's look at its sockets, and the way from there to whoever is ready."""

    cdef int epoll_fd
    cdef list handlers

    def __init__(self, int epoll_fd):
        self.epoll_fd = epoll_fd
        self.handlers = []

    def hand(self, int fd, handler):
        """Who looks after a descriptor: a StreamHot, an AgentHot, something to call with the mask, or None."""
        while len(self.handlers) <= fd:
            self.handlers.append(None)
        self.handlers[fd] = handler

    cdef inline soon(self, epoll_event *events, int i, int count):
        """As in `speak`: who is ready a few places ahead, and where what they hear is written down."""
        cdef int fd
        if i + 4 < count:
            fd = events[i + 4].data.fd
            if fd < len(self.handlers):
                soon(PyList_GET_ITEM(self.handlers, fd))
                soon(<char *>PyList_GET_ITEM(self.handlers, fd) + 64)
        if i + 2 < count:
            fd = events[i + 2].data.fd
            if fd < len(self.handlers):
                handler = <object>PyList_GET_ITEM(self.handlers, fd)
                if type(handler) is AgentHot:
                    soon(<void *>(<AgentHot>handler).arrived)
        if i + 1 < count:
            fd = events[i + 1].data.fd
            if fd < len(self.handlers):
                handler = <object>PyList_GET_ITEM(self.handlers, fd)
                if type(handler) is AgentHot:
                    soon((<AgentHot>handler).arrived.data + (<AgentHot>handler).arrived.size)

    def turn(self, double wait_s, int events_max) -> float:
        """Wait, then let everybody do what they have to; the instant of waking."""
        cdef epoll_event events[EVENTS_MAX]
        cdef int count, i, fd
        cdef int timeout_ms = <int>(wait_s * 1000.0 + 0.999) if wait_s > 0.0 else 0
        cdef double woken_s
        with nogil:
            count = epoll_wait(self.epoll_fd, events, min(events_max, EVENTS_MAX), timeout_ms)
        woken_s = now()
        compare_clocks()
        if count < 0 and errno != EINTR:
            raise OSError(errno, "epoll_wait")
        for i in range(count):
            self.soon(events, i, count)
            fd = events[i].data.fd
            handler = self.handlers[fd] if fd < len(self.handlers) else None
            if type(handler) is AgentHot:
                (<AgentHot>handler).ready(events[i].events)
            elif type(handler) is StreamHot:
                (<StreamHot>handler).ready(events[i].events)
            elif handler is not None:
                handler(events[i].events)
        return woken_s
