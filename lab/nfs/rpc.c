/* Sun RPC over TCP (RFC 5531), one call at a time. A lost connection is made anew and the call sent again under its old
 * number, so that the server's reply cache knows it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rpc.h"

#define TICK_MS 100           /* between looks at the one who waits */
#define CONNECT_MS 2000       /* for one attempt */
#define PAUSE_MS 250          /* between attempts */
#define PATIENCE_MS 10000     /* of a mount command with a server that is away */
#define DEAD_AFTER_MS 4000    /* without a sign of life from the peer's TCP */
#define NO_REPLY_MS 20000     /* from a peer that lives but does not answer: ask again on a new connection */
#define LARGEST (2 << 20)

pid_t rpc_waiting_process;
int rpc_fuse_fd = -1;

static unsigned char request[LARGEST], answer[LARGEST];
static size_t request_length;
static uint32_t transaction;

/* --- building a call --------------------------------------------------------------------------------------------- */

void put_u32(uint32_t value)
{
    value = htonl(value);
    memcpy(request + request_length, &value, 4);
    request_length += 4;
}

void put_u64(uint64_t value)
{
    put_u32(value >> 32);
    put_u32((uint32_t)value);
}

void put_bytes(const void *data, size_t length)
{
    static const char zeros[4];

    memcpy(request + request_length, data, length);
    request_length += length;
    memcpy(request + request_length, zeros, -length & 3);
    request_length += -length & 3;
}

void put_opaque(const void *data, size_t length)
{
    put_u32((uint32_t)length);
    put_bytes(data, length);
}

void put_string(const char *text)
{
    put_opaque(text, strlen(text));
}

static void put_credentials(void)
{
    char host[256] = "";
    size_t length;

    gethostname(host, sizeof host - 1);
    length = (strlen(host) + 3) & ~3u;
    put_u32(1); /* AUTH_SYS, as root: the kernel has checked what the caller may do */
    put_u32(20 + length);
    put_u32(0);
    put_string(host);
    put_u32(0);
    put_u32(0);
    put_u32(0);
    put_u32(0); /* no verifier */
    put_u32(0);
}

void rpc_begin(struct server *server, uint32_t procedure)
{
    if (!transaction)
        transaction = (uint32_t)time(NULL) ^ ((uint32_t)getpid() << 16);
    request_length = 4; /* the record mark */
    put_u32(++transaction);
    put_u32(0); /* a call */
    put_u32(2);
    put_u32(server->program);
    put_u32(server->version);
    put_u32(procedure);
    put_credentials();
}

/* --- reading a reply --------------------------------------------------------------------------------------------- */

const void *get_bytes(struct reply *reply, size_t length)
{
    const unsigned char *here = reply->at;

    if ((size_t)(reply->end - here) < ((length + 3) & ~(size_t)3)) {
        reply->bad = 1;
        reply->at = reply->end;
        return NULL;
    }
    reply->at += (length + 3) & ~(size_t)3;
    return here;
}

uint32_t get_u32(struct reply *reply)
{
    const void *bytes = get_bytes(reply, 4);
    uint32_t value = 0;

    if (bytes)
        memcpy(&value, bytes, 4);
    return ntohl(value);
}

uint64_t get_u64(struct reply *reply)
{
    uint64_t high = get_u32(reply);

    return high << 32 | get_u32(reply);
}

const void *get_opaque(struct reply *reply, size_t *length)
{
    const void *bytes;

    *length = get_u32(reply);
    bytes = *length <= LARGEST ? get_bytes(reply, *length) : NULL;
    if (!bytes) {
        reply->bad |= *length != 0;
        *length = 0;
    }
    return bytes;
}

/* --- waiting ----------------------------------------------------------------------------------------------------- */

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* As with the kernel's client only a fatal signal ends the wait; the kernel shows each of those as a pending KILL. */
static int is_killed(pid_t process)
{
    char path[64], line[256];
    unsigned long long pending;
    int killed = 0;
    FILE *status;

    if (!process)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)process);
    status = fopen(path, "re");
    if (!status)
        return 0;
    while (fgets(line, sizeof line, status))
        if (sscanf(line, "SigPnd: %llx", &pending) == 1 || sscanf(line, "ShdPnd: %llx", &pending) == 1)
            killed |= pending >> 8 & 1;
    fclose(status);
    return killed;
}

/* Wait until FD (or nothing, if -1) is ready: 1, after so many milliseconds: 0, or -EINTR if nobody waits any more. */
static int wait_for(int fd, short events, int milliseconds)
{
    long long end = now_ms() + milliseconds;

    for (;;) {
        struct pollfd watched[2] = {{fd, events, 0}, {rpc_fuse_fd, 0, 0}};
        long long left = end - now_ms();

        poll(watched, 2, left > TICK_MS ? TICK_MS : left > 0 ? (int)left : 0);
        if (watched[1].revents & POLLERR)
            _exit(0); /* umount -f: the kernel has let go of all who waited */
        if (watched[0].revents)
            return 1;
        if (is_killed(rpc_waiting_process))
            return -EINTR;
        if (left <= 0)
            return 0;
    }
}

/* --- the connection ---------------------------------------------------------------------------------------------- */

static void hang_up(struct server *server)
{
    if (server->fd >= 0)
        close(server->fd);
    server->fd = -1;
}

static void watch_peer(int fd)
{
    int on = 1, seconds = 1, probes = DEAD_AFTER_MS / 1000, limit = DEAD_AFTER_MS;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

/* One attempt: 0 or a negative errno. */
static int dial(struct server *server)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
    struct sockaddr_in address;
    socklen_t size = sizeof(int);
    int error = 0, ready;

    if (getaddrinfo(server->name, NULL, &hints, &found))
        return -EHOSTUNREACH;
    memcpy(&address, found->ai_addr, sizeof address);
    freeaddrinfo(found);
    address.sin_port = htons(server->port);
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (server->fd < 0)
        return -errno;
    watch_peer(server->fd);
    if (connect(server->fd, (struct sockaddr *)&address, sizeof address) == 0)
        return 0;
    error = errno;
    if (error == EINPROGRESS) {
        ready = wait_for(server->fd, POLLOUT, CONNECT_MS);
        error = ready < 0 ? EINTR : ETIMEDOUT;
        if (ready == 1)
            getsockopt(server->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error)
        hang_up(server);
    return -error;
}

static int send_request(struct server *server)
{
    uint32_t mark = htonl(0x80000000u | (uint32_t)(request_length - 4));
    size_t sent = 0;

    memcpy(request, &mark, 4);
    while (sent < request_length) {
        ssize_t part = send(server->fd, request + sent, request_length - sent, MSG_NOSIGNAL);
        int ready;

        if (part >= 0) {
            sent += part;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        ready = wait_for(server->fd, POLLOUT, NO_REPLY_MS);
        if (ready <= 0)
            return ready ? ready : -ETIMEDOUT;
    }
    return 0;
}

static int receive(struct server *server, unsigned char *to, size_t length)
{
    while (length) {
        ssize_t part = recv(server->fd, to, length, 0);
        int ready;

        if (part > 0) {
            to += part;
            length -= part;
            continue;
        }
        if (part == 0)
            return -ECONNRESET;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        ready = wait_for(server->fd, POLLIN, NO_REPLY_MS);
        if (ready <= 0)
            return ready ? ready : -ETIMEDOUT;
    }
    return 0;
}

/* One whole record, which may come in fragments: its length or a negative errno. */
static ssize_t receive_record(struct server *server)
{
    size_t total = 0;
    uint32_t mark;
    int error;

    do {
        error = receive(server, (unsigned char *)&mark, 4);
        if (error)
            return error;
        mark = ntohl(mark);
        if (total + (mark & 0x7fffffff) > sizeof answer)
            return -EMSGSIZE;
        error = receive(server, answer + total, mark & 0x7fffffff);
        if (error)
            return error;
        total += mark & 0x7fffffff;
    } while (!(mark & 0x80000000u));
    return (ssize_t)total;
}

/* Send the request and read its reply, on the connection that there is or on a new one. */
static int attempt(struct server *server, struct reply *reply)
{
    uint32_t number;
    ssize_t length;
    int error = server->fd < 0 ? dial(server) : 0;

    if (!error)
        error = send_request(server);
    while (!error) {
        length = receive_record(server);
        if (length < 0)
            error = (int)length;
        else {
            *reply = (struct reply){answer, answer + length, 0};
            memcpy(&number, request + 4, 4);
            if (htonl(get_u32(reply)) == number)
                return 0;
            /* The reply to a call that nobody waited for any more. */
        }
    }
    hang_up(server);
    return error;
}

static int check_header(struct reply *reply)
{
    size_t length;

    if (get_u32(reply) != 1)
        return -EIO;
    if (get_u32(reply) != 0)
        return -EACCES; /* the call was denied */
    get_u32(reply);
    get_opaque(reply, &length);
    if (get_u32(reply) != 0 || reply->bad)
        return -EIO; /* the program, its version or the procedure is not there */
    return 0;
}

static void renumber(void)
{
    uint32_t number = htonl(++transaction);

    memcpy(request + 4, &number, 4);
}

int rpc_transact(struct server *server, struct reply *reply)
{
    long long give_up = now_ms() + PATIENCE_MS;

    for (;;) {
        int error = attempt(server, reply);
        struct reply status;

        if (!error) {
            error = check_header(reply);
            status = *reply;
            if (error || server->program != NFS_PROGRAM || get_u32(&status) != NFS3ERR_JUKEBOX)
                return error;
            renumber(); /* "try again later" is an answer: the next try is another call */
        }
        if (error == -EINTR)
            return error;
        if (rpc_fuse_fd < 0 && now_ms() > give_up)
            return error;
        error = wait_for(-1, 0, PAUSE_MS);
        if (error)
            return error;
    }
}

int rpc_port(char *name, uint32_t program, uint32_t version)
{
    struct server portmapper = {name, PORTMAP_PROGRAM, 2, 111, -1};
    struct reply reply;
    int error;

    rpc_begin(&portmapper, 3); /* GETPORT */
    put_u32(program);
    put_u32(version);
    put_u32(6); /* TCP */
    put_u32(0);
    error = rpc_transact(&portmapper, &reply);
    hang_up(&portmapper);
    if (error)
        return error;
    error = (int)get_u32(&reply);
    return error ? error : -ECONNREFUSED;
}
