"""The system calls and atomic operations that the engine uses."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "<errno.h>" nogil:
    int errno
    enum:
        EAGAIN, EBADF, EINTR, EINVAL, EINPROGRESS, ECONNREFUSED, EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EADDRNOTAVAIL, EPIPE

cdef extern from *:
    """
    #include <errno.h>
    static inline void amphorad_set_errno(int value) { errno = value; }
    """
    void set_errno "amphorad_set_errno"(int value) nogil  # Cython takes an assignment to `errno` for a local variable

cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLL_CLOEXEC
        EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD
    ctypedef union epoll_data_t:
        void *ptr
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)

cdef extern from "<sys/eventfd.h>" nogil:
    enum:
        EFD_NONBLOCK, EFD_CLOEXEC
    int eventfd(unsigned int initval, int flags)

cdef extern from "<sys/socket.h>" nogil:
    enum:
        AF_INET, AF_INET6, AF_UNIX, SOCK_STREAM, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_CLOEXEC, SOL_SOCKET, SO_ERROR
        SO_LINGER, MSG_NOSIGNAL, MSG_DONTWAIT, MSG_MORE, MSG_PEEK, MSG_TRUNC, SHUT_WR, SHUT_RD, SHUT_RDWR
        SO_SNDBUF, SO_RCVLOWAT
    ctypedef uint32_t socklen_t
    struct sockaddr:
        uint16_t sa_family
    struct sockaddr_storage:
        uint16_t ss_family
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct linger:
        int l_onoff
        int l_linger
    int socket(int domain, int type, int protocol)
    int connect(int fd, const sockaddr *address, socklen_t length)
    int getsockname(int fd, sockaddr *address, socklen_t *length)
    int accept4(int fd, sockaddr *address, socklen_t *length, int flags)
    ssize_t recv(int fd, void *buffer, size_t length, int flags)
    ssize_t send(int fd, const void *buffer, size_t length, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    int sendmmsg(int fd, mmsghdr *messages, unsigned int count, int flags)
    int shutdown(int fd, int how)
    int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t length)

cdef extern from "<netinet/in.h>" nogil:
    enum:
        IPPROTO_TCP
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr
    uint16_t ntohs(uint16_t value)
    uint16_t htons(uint16_t value)

cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        TCP_NODELAY, TCP_CORK, TCP_QUICKACK

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *address, char *text, socklen_t room)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int pipe2(int *fds, int flags)
    ssize_t read(int fd, void *buffer, size_t length)
    ssize_t write(int fd, const void *buffer, size_t length)

cdef extern from "<unistd.h>" nogil:
    int getentropy(void *buffer, size_t length)

cdef extern from "<fcntl.h>" nogil:
    enum:
        O_NONBLOCK, O_CLOEXEC, F_SETPIPE_SZ, F_GETPIPE_SZ, SPLICE_F_MOVE, SPLICE_F_NONBLOCK, SPLICE_F_MORE
    int fcntl(int fd, int command, int argument)
    ssize_t splice(int fd_in, int64_t *offset_in, int fd_out, int64_t *offset_out, size_t length, unsigned int flags)

cdef extern from "<time.h>" nogil:
    enum:
        CLOCK_MONOTONIC, CLOCK_REALTIME
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *value)

cdef extern from *:
    """
    #define amphorad_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
    #define amphorad_store(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
    #define amphorad_add(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)
    #define amphorad_exchange(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
    #define amphorad_peek(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define amphorad_put(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    #define amphorad_bump(p, v) __atomic_store_n((p), __atomic_load_n((p), __ATOMIC_RELAXED) + (v), __ATOMIC_RELEASE)
    #define amphorad_witness(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    static inline void amphorad_raise(int64_t *place, int64_t value) {
        int64_t seen = __atomic_load_n(place, __ATOMIC_RELAXED);
        while (value > seen
               && !__atomic_compare_exchange_n(place, &seen, value, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    }
    static inline int amphorad_exchange_if(uint64_t *place, uint64_t seen, uint64_t value) {
        return __atomic_compare_exchange_n(place, &seen, value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
    #define amphorad_likely(x) __builtin_expect(!!(x), 1)
    #define amphorad_unlikely(x) __builtin_expect(!!(x), 0)
    """
    int64_t load_i64 "amphorad_load"(int64_t *value) nogil
    void store_i64 "amphorad_store"(int64_t *value, int64_t new) nogil
    int64_t add_i64 "amphorad_add"(int64_t *value, int64_t change) nogil
    uint64_t load_u64 "amphorad_load"(uint64_t *value) nogil
    void store_u64 "amphorad_store"(uint64_t *value, uint64_t new) nogil
    uint32_t load_u32 "amphorad_load"(uint32_t *value) nogil
    void store_u32 "amphorad_store"(uint32_t *value, uint32_t new) nogil
    uint32_t exchange_u32 "amphorad_exchange"(uint32_t *value, uint32_t new) nogil
    # Plain loads and stores as x86 and Arm have them, for values that others look at without a lock: peek and put order
    # nothing; bump is for values with one writer, and who witnesses the new value sees all that was written before it.
    uint32_t peek_u32 "amphorad_peek"(const uint32_t *value) nogil
    int32_t peek_i32 "amphorad_peek"(const int32_t *value) nogil
    uint64_t peek_u64 "amphorad_peek"(const uint64_t *value) nogil
    int64_t peek_i64 "amphorad_peek"(const int64_t *value) nogil
    void put_u32 "amphorad_put"(uint32_t *value, uint32_t new) nogil
    void put_i32 "amphorad_put"(int32_t *value, int32_t new) nogil
    void put_u64 "amphorad_put"(uint64_t *value, uint64_t new) nogil
    void put_i64 "amphorad_put"(int64_t *value, int64_t new) nogil
    void bump_u32 "amphorad_bump"(uint32_t *value, int change) nogil
    void bump_i32 "amphorad_bump"(int32_t *value, int change) nogil
    void bump_i64 "amphorad_bump"(int64_t *value, int change) nogil
    int32_t witness_i32 "amphorad_witness"(const int32_t *value) nogil
    void raise_i64 "amphorad_raise"(int64_t *value, int64_t candidate) nogil    # to `candidate` if that is more
    bint exchange_if_u64 "amphorad_exchange_if"(uint64_t *value, uint64_t seen, uint64_t new) nogil    # 0: it is not `seen`
    int32_t load_i32 "amphorad_load"(const int32_t *value) nogil
    void store_i32 "amphorad_store"(int32_t *value, int32_t new) nogil
    bint unlikely "amphorad_unlikely"(bint condition) nogil
    bint likely "amphorad_likely"(bint condition) nogil


cdef inline uint64_t now_us() noexcept nogil:
    cdef timespec value
    clock_gettime(CLOCK_MONOTONIC, &value)
    return <uint64_t>value.tv_sec * 1000000 + <uint64_t>value.tv_nsec // 1000


cdef inline int64_t wall_us() noexcept nogil:
    cdef timespec value
    clock_gettime(CLOCK_REALTIME, &value)
    return <int64_t>value.tv_sec * 1000000 + <int64_t>value.tv_nsec // 1000
