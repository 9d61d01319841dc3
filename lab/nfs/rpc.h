/* Sun RPC over TCP for a client that never gives up: what a `hard` NFS mount needs, and nothing else. */
#ifndef RPC_H
#define RPC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PORTMAP_PROGRAM 100000
#define MOUNT_PROGRAM 100005
#define NFS_PROGRAM 100003
#define NFS3ERR_JUKEBOX 10008

/* A server that can be asked: its address, and the connection while there is one. */
struct server {
    char *name;
    uint32_t program, version;
    int port;
    int fd;
};

/* A reply being read: what is asked for beyond its end reads as zero and sets `bad`. */
struct reply {
    const unsigned char *at, *end;
    int bad;
};

/* Who waits for the answer: a process that is killed waits no longer. 0 is nobody. */
extern pid_t rpc_waiting_process;
/* The descriptor of the FUSE session, or -1 before there is one: when the mount is gone by force, so is this program. */
extern int rpc_fuse_fd;

/* Begin a call; its arguments follow with put_. */
void rpc_begin(struct server *server, uint32_t procedure);
void put_u32(uint32_t value);
void put_u64(uint64_t value);
void put_bytes(const void *data, size_t length);
void put_opaque(const void *data, size_t length);
void put_string(const char *text);

/* Send what was put and wait for the reply, however long the server is away. Before the mount (rpc_fuse_fd is -1) it
 * is not waited for longer than the patience of a mount command. Returns 0 or a negative errno. */
int rpc_transact(struct server *server, struct reply *reply);

uint32_t get_u32(struct reply *reply);
uint64_t get_u64(struct reply *reply);
const void *get_bytes(struct reply *reply, size_t length);
/* A counted byte string; NULL with *length 0 where there is none. */
const void *get_opaque(struct reply *reply, size_t *length);

/* The TCP port of a program on a host, asked of its portmapper: a port or a negative errno. */
int rpc_port(char *name, uint32_t program, uint32_t version);

#endif
