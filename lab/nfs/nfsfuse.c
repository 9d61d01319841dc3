/* mount.nfs for kernels without an NFS client: an NFS version 3 client (RFC 1813) in user space, on FUSE.
 *
 *     mount.nfs SERVER:/EXPORT MOUNTPOINT [-sfnvrw] [-o OPTIONS]
 *
 * It is called by mount(8), fstab and Salt as the real helper is. The semantic is `hard`: while the server is away every
 * call waits, and goes on when it is back; a fatal signal or `umount -f` ends the wait. mountinfo shows type fuse.nfs and
 * the real source. Attributes are cached for a second, data as long as its file is open and unchanged; version 3 has no
 * extended attributes, so neither has this; locks are the node's own (`nolock`). Handles are the server's, so files may
 * be renamed by others while they are open, and one that the server has lost is ESTALE. */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "rpc.h"

#define MOUNT_FAILED 32 /* mount(8) */
#define CACHE_SECONDS 1.0
#define HANDLE_MAX 64
#define BUCKETS 4096
#define NFS3ERR_BADHANDLE 10001
#define NFS3ERR_NOTSUPP 10004
#define MOUNT_CGROUP "/sys/fs/cgroup/nfs-client"

enum procedure {
    GETATTR = 1, SETATTR, LOOKUP, ACCESS, READLINK, READ, WRITE, CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, RENAME,
    LINK, READDIR, READDIRPLUS, FSSTAT, FSINFO, PATHCONF, COMMIT
};
enum create_mode { UNCHECKED, GUARDED };
enum set_time { DONT_CHANGE, SET_TO_SERVER_TIME, SET_TO_CLIENT_TIME };

struct handle {
    size_t length;
    unsigned char bytes[HANDLE_MAX];
};

/* A file as the kernel knows it: it exists while the kernel may still ask for it. */
struct node {
    struct node *next;
    struct handle handle;
    struct stat last; /* attributes as last seen */
    uint64_t lookups;
    unsigned int opens;
    int written;            /* since the last COMMIT */
    char *hidden;           /* removed while open: its name until the last close, in ... */
    struct handle hidden_in;
};

struct entry {
    char *name;
    uint64_t fileid;
    int complete; /* attributes and handle came along */
    struct stat attributes;
    struct handle handle;
};

/* A folder being read: its entries as they were at the beginning. */
struct listing {
    struct entry *entries;
    size_t count;
    int filled;
};

static struct server nfs = {NULL, NFS_PROGRAM, 3, 0, -1};
static struct node root;
static struct node *buckets[BUCKETS];
static size_t read_size = 65536, write_size = 65536, list_size = 65536;

/* --- nodes ------------------------------------------------------------------------------------------------------- */

static size_t bucket_of(const struct handle *handle)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < handle->length; i++)
        hash = (hash ^ handle->bytes[i]) * 16777619u;
    return hash % BUCKETS;
}

static int same(const struct handle *one, const struct handle *other)
{
    return one->length == other->length && !memcmp(one->bytes, other->bytes, one->length);
}

static struct node *find_node(const struct handle *handle)
{
    struct node *node = buckets[bucket_of(handle)];

    while (node && !same(&node->handle, handle))
        node = node->next;
    return node;
}

static struct node *find_or_make_node(const struct handle *handle)
{
    struct node *node = same(handle, &root.handle) ? &root : find_node(handle);
    size_t bucket = bucket_of(handle);

    if (node)
        return node;
    node = calloc(1, sizeof *node);
    if (!node)
        abort();
    node->handle = *handle;
    node->next = buckets[bucket];
    buckets[bucket] = node;
    return node;
}

static void drop_node_if_unused(struct node *node)
{
    struct node **link = &buckets[bucket_of(&node->handle)];

    if (node == &root || node->lookups || node->opens)
        return;
    while (*link != node)
        link = &(*link)->next;
    *link = node->next;
    free(node->hidden);
    free(node);
}

static struct node *node_of(fuse_ino_t number)
{
    return number == FUSE_ROOT_ID ? &root : (struct node *)(uintptr_t)number;
}

/* --- XDR of NFS -------------------------------------------------------------------------------------------------- */

static void begin(enum procedure procedure, const struct handle *handle)
{
    rpc_begin(&nfs, procedure);
    put_opaque(handle->bytes, handle->length);
}

static int to_errno(uint32_t status)
{
    switch (status) {
    case 63:
        return ENAMETOOLONG;
    case 66:
        return ENOTEMPTY;
    case 69:
        return EDQUOT;
    case 70:
    case NFS3ERR_BADHANDLE:
        return ESTALE;
    case 71:
        return EREMOTE;
    case NFS3ERR_NOTSUPP:
        return EOPNOTSUPP;
    default:
        /* The others below 100 have the numbers of Unix. */
        return status < 100 ? (int)status : EIO;
    }
}

/* Send the call: 0, or a positive errno of the way there or of the server. */
static int finish(struct reply *reply)
{
    int error = rpc_transact(&nfs, reply);

    return error ? -error : to_errno(get_u32(reply));
}

static void get_time(struct reply *reply, struct timespec *moment)
{
    moment->tv_sec = get_u32(reply);
    moment->tv_nsec = get_u32(reply);
}

static void get_attributes(struct reply *reply, struct stat *st)
{
    static const mode_t types[] = {0, S_IFREG, S_IFDIR, S_IFBLK, S_IFCHR, S_IFLNK, S_IFSOCK, S_IFIFO};
    uint32_t type = get_u32(reply), major_number;

    memset(st, 0, sizeof *st);
    st->st_mode = (type < 8 ? types[type] : 0) | (get_u32(reply) & 07777);
    st->st_nlink = get_u32(reply);
    st->st_uid = get_u32(reply);
    st->st_gid = get_u32(reply);
    st->st_size = (off_t)get_u64(reply);
    st->st_blocks = (blkcnt_t)((get_u64(reply) + 511) / 512);
    st->st_blksize = 65536;
    major_number = get_u32(reply);
    st->st_rdev = makedev(major_number, get_u32(reply));
    get_u64(reply); /* fsid */
    st->st_ino = get_u64(reply);
    get_time(reply, &st->st_atim);
    get_time(reply, &st->st_mtim);
    get_time(reply, &st->st_ctim);
}

static int get_optional_attributes(struct reply *reply, struct stat *st)
{
    int there = get_u32(reply) != 0;

    if (there)
        get_attributes(reply, st);
    return there;
}

/* What a change did to its object: attributes before (not used) and after. */
static int get_change(struct reply *reply, struct stat *st)
{
    if (get_u32(reply))
        get_bytes(reply, 24);
    return get_optional_attributes(reply, st);
}

static int get_handle(struct reply *reply, struct handle *handle)
{
    const void *bytes = get_opaque(reply, &handle->length);

    if (!bytes || handle->length > HANDLE_MAX)
        return 0;
    memcpy(handle->bytes, bytes, handle->length);
    return 1;
}

static void put_time(enum set_time how, const struct timespec *moment)
{
    put_u32(how);
    if (how == SET_TO_CLIENT_TIME) {
        put_u32((uint32_t)moment->tv_sec);
        put_u32((uint32_t)moment->tv_nsec);
    }
}

static void put_optional(int there, uint32_t value)
{
    put_u32(there);
    if (there)
        put_u32(value);
}

/* The attributes of something new: mode and owner. It belongs to who creates it, in the group of its folder where that
 * has the set-group-id bit. */
static void put_new_attributes(fuse_req_t req, const struct node *folder, mode_t mode)
{
    const struct fuse_ctx *caller = fuse_req_ctx(req);
    int inherits = folder->last.st_mode & S_ISGID;

    put_optional(mode != (mode_t)-1, mode & 07777);
    put_optional(1, caller->uid);
    put_optional(1, inherits ? folder->last.st_gid : caller->gid);
    put_u32(0); /* size */
    put_time(DONT_CHANGE, NULL);
    put_time(DONT_CHANGE, NULL);
}

/* --- calls that several operations need -------------------------------------------------------------------------- */

static int fetch_attributes(struct node *node)
{
    struct reply reply;
    int error;

    begin(GETATTR, &node->handle);
    error = finish(&reply);
    if (!error)
        get_attributes(&reply, &node->last);
    return error;
}

/* Read the attributes after a change into the node, or ask for them if the server did not send them. */
static int take_change(struct reply *reply, struct node *node)
{
    struct stat st;

    if (!get_change(reply, &st))
        return fetch_attributes(node);
    node->last = st;
    return 0;
}

static int find(const struct handle *folder, const char *name, struct handle *handle, struct stat *st)
{
    struct reply reply;
    int error;

    begin(LOOKUP, folder);
    put_string(name);
    error = finish(&reply);
    if (error)
        return error;
    if (!get_handle(&reply, handle))
        return EIO;
    if (get_optional_attributes(&reply, st))
        return 0;
    begin(GETATTR, handle);
    error = finish(&reply);
    if (!error)
        get_attributes(&reply, st);
    return error;
}

static int remove_name(const struct handle *folder, const char *name)
{
    struct reply reply;

    begin(REMOVE, folder);
    put_string(name);
    return finish(&reply);
}

static int rename_name(const struct handle *from, const char *old, const struct handle *to, const char *new)
{
    struct reply reply;

    begin(RENAME, from);
    put_string(old);
    put_opaque(to->bytes, to->length);
    put_string(new);
    return finish(&reply);
}

/* A name that is about to go while its file is open is only changed: the server knows nothing of open files, and would
 * take the data away. It goes with the last close. Returns 1 if that was done, 0 if there was no need, or -errno. */
static int hide_if_open(struct node *folder, const char *name)
{
    static unsigned int number;
    struct handle handle;
    struct stat st;
    struct node *node;
    char hidden[64];
    int error = find(&folder->handle, name, &handle, &st);

    if (error)
        return error == ENOENT ? 0 : -error;
    node = find_node(&handle);
    /* With other names left its data stays anyway. */
    if (!node || !node->opens || node->hidden || S_ISDIR(st.st_mode) || st.st_nlink > 1)
        return 0;
    snprintf(hidden, sizeof hidden, ".nfs%016llx%08x", (unsigned long long)st.st_ino, ++number);
    error = rename_name(&folder->handle, name, &folder->handle, hidden);
    if (error)
        return -error;
    node->hidden = strdup(hidden);
    node->hidden_in = folder->handle;
    return 1;
}

static int commit(struct node *node)
{
    struct reply reply;
    int error;

    if (!node->written)
        return 0;
    begin(COMMIT, &node->handle);
    put_u64(0);
    put_u32(0);
    error = finish(&reply);
    if (!error)
        node->written = 0;
    return error;
}

static int set_attributes(struct node *node, const struct stat *wanted, int which)
{
    struct reply reply;
    int error;

    begin(SETATTR, &node->handle);
    put_optional(which & FUSE_SET_ATTR_MODE ? 1 : 0, wanted->st_mode & 07777);
    put_optional(which & FUSE_SET_ATTR_UID ? 1 : 0, wanted->st_uid);
    put_optional(which & FUSE_SET_ATTR_GID ? 1 : 0, wanted->st_gid);
    put_u32(which & FUSE_SET_ATTR_SIZE ? 1 : 0);
    if (which & FUSE_SET_ATTR_SIZE)
        put_u64((uint64_t)wanted->st_size);
    put_time(which & FUSE_SET_ATTR_ATIME_NOW ? SET_TO_SERVER_TIME
             : which & FUSE_SET_ATTR_ATIME   ? SET_TO_CLIENT_TIME
                                             : DONT_CHANGE,
             &wanted->st_atim);
    put_time(which & FUSE_SET_ATTR_MTIME_NOW ? SET_TO_SERVER_TIME
             : which & FUSE_SET_ATTR_MTIME   ? SET_TO_CLIENT_TIME
                                             : DONT_CHANGE,
             &wanted->st_mtim);
    put_u32(0); /* no guard */
    error = finish(&reply);
    return error ? error : take_change(&reply, node);
}

/* --- answering the kernel ---------------------------------------------------------------------------------------- */

static void enter(fuse_req_t req)
{
    rpc_waiting_process = fuse_req_ctx(req)->pid;
}

static struct node *fill_entry(struct fuse_entry_param *entry, const struct handle *handle, const struct stat *st)
{
    struct node *node = find_or_make_node(handle);

    node->last = *st;
    memset(entry, 0, sizeof *entry);
    entry->ino = node == &root ? FUSE_ROOT_ID : (uintptr_t)node;
    entry->attr = *st;
    entry->attr_timeout = CACHE_SECONDS;
    entry->entry_timeout = CACHE_SECONDS;
    node->lookups++;
    return node;
}

static void reply_entry(fuse_req_t req, const struct handle *handle, const struct stat *st)
{
    struct fuse_entry_param entry;
    struct node *node = fill_entry(&entry, handle, st);

    if (fuse_reply_entry(req, &entry) != 0) {
        node->lookups--;
        drop_node_if_unused(node);
    }
}

static void reply_attributes(fuse_req_t req, struct node *node, int error)
{
    if (error)
        fuse_reply_err(req, error);
    else
        fuse_reply_attr(req, &node->last, CACHE_SECONDS);
}

static void do_init(void *data, struct fuse_conn_info *connection)
{
    (void)data;
    if (connection->max_write > write_size)
        connection->max_write = (unsigned int)write_size;
    /* NFS knows no open: with this, which libfuse asks for by itself, the kernel would leave O_TRUNC to it. */
    connection->want &= ~(unsigned int)FUSE_CAP_ATOMIC_O_TRUNC;
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct handle handle;
    struct stat st;
    int error;

    enter(req);
    error = find(&node_of(parent)->handle, name, &handle, &st);
    if (error)
        fuse_reply_err(req, error);
    else
        reply_entry(req, &handle, &st);
}

static void forget(fuse_ino_t number, uint64_t lookups)
{
    struct node *node = node_of(number);

    node->lookups -= lookups < node->lookups ? lookups : node->lookups;
    drop_node_if_unused(node);
}

static void do_forget(fuse_req_t req, fuse_ino_t number, uint64_t lookups)
{
    forget(number, lookups);
    fuse_reply_none(req);
}

static void do_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        forget(forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

static void do_getattr(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
    (void)fi;
    enter(req);
    reply_attributes(req, node_of(number), fetch_attributes(node_of(number)));
}

static void do_setattr(fuse_req_t req, fuse_ino_t number, struct stat *wanted, int which, struct fuse_file_info *fi)
{
    const int owner = FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
    struct node *node = node_of(number);
    int error = 0;

    (void)fi;
    enter(req);
    /* The owner first: a change of owner takes the set-id bits away again. */
    if (which & owner && which & FUSE_SET_ATTR_MODE) {
        error = set_attributes(node, wanted, which & owner);
        which &= ~owner;
    }
    reply_attributes(req, node, error ? error : set_attributes(node, wanted, which));
}

static void do_readlink(fuse_req_t req, fuse_ino_t number)
{
    char target[4097];
    const void *bytes;
    struct reply reply;
    struct stat st;
    size_t length;
    int error;

    enter(req);
    begin(READLINK, &node_of(number)->handle);
    error = finish(&reply);
    if (!error) {
        get_optional_attributes(&reply, &st);
        bytes = get_opaque(&reply, &length);
        if (bytes && length < sizeof target) {
            memcpy(target, bytes, length);
            target[length] = '\0';
            fuse_reply_readlink(req, target);
            return;
        }
        error = EIO;
    }
    fuse_reply_err(req, error);
}

/* Read the reply to a call that makes something, and make sure that its mode is the one that was asked for. */
static int take_new(struct node *folder, const char *name, mode_t mode, struct reply *reply, struct handle *handle,
                    struct stat *st)
{
    struct node made = {0};
    struct stat wanted = {.st_mode = mode};
    int there = get_u32(reply) && get_handle(reply, handle);
    int error = 0;

    if (!there || !get_optional_attributes(reply, st))
        error = find(&folder->handle, name, handle, st);
    if (!error && mode != (mode_t)-1 && (st->st_mode & 07777) != (mode & 07777)) {
        made.handle = *handle;
        error = set_attributes(&made, &wanted, FUSE_SET_ATTR_MODE);
        *st = made.last;
    }
    return error;
}

static void finish_new(fuse_req_t req, struct node *folder, const char *name, mode_t mode)
{
    struct handle handle;
    struct reply reply;
    struct stat st;
    int error = finish(&reply);

    if (!error)
        error = take_new(folder, name, mode, &reply, &handle, &st);
    if (error)
        fuse_reply_err(req, error);
    else
        reply_entry(req, &handle, &st);
}

static void do_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
    struct node *folder = node_of(parent);

    enter(req);
    if (S_ISREG(mode)) {
        begin(CREATE, &folder->handle);
        put_string(name);
        put_u32(GUARDED);
        put_new_attributes(req, folder, mode);
    } else {
        begin(MKNOD, &folder->handle);
        put_string(name);
        put_u32(S_ISBLK(mode) ? 3 : S_ISCHR(mode) ? 4 : S_ISSOCK(mode) ? 6 : 7);
        put_new_attributes(req, folder, mode);
        if (S_ISBLK(mode) || S_ISCHR(mode)) {
            put_u32(major(device));
            put_u32(minor(device));
        }
    }
    finish_new(req, folder, name, mode);
}

static void do_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct node *folder = node_of(parent);

    enter(req);
    mode |= folder->last.st_mode & S_ISGID;
    begin(MKDIR, &folder->handle);
    put_string(name);
    put_new_attributes(req, folder, mode);
    finish_new(req, folder, name, mode);
}

static void do_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    struct node *folder = node_of(parent);

    enter(req);
    begin(SYMLINK, &folder->handle);
    put_string(name);
    put_new_attributes(req, folder, (mode_t)-1);
    put_string(target);
    finish_new(req, folder, name, (mode_t)-1);
}

static void do_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct node *folder = node_of(parent);
    int hidden;

    enter(req);
    hidden = hide_if_open(folder, name);
    fuse_reply_err(req, hidden < 0 ? -hidden : hidden ? 0 : remove_name(&folder->handle, name));
}

static void do_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct reply reply;

    enter(req);
    begin(RMDIR, &node_of(parent)->handle);
    put_string(name);
    fuse_reply_err(req, finish(&reply));
}

static void do_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
                      unsigned int flags)
{
    struct node *to = node_of(new_parent);
    struct handle handle;
    struct stat st;
    int error = 0, hidden;

    enter(req);
    if (flags & ~RENAME_NOREPLACE)
        error = EINVAL;
    else if (flags) {
        error = find(&to->handle, new_name, &handle, &st);
        error = error == ENOENT ? 0 : error ? error : EEXIST;
    } else {
        hidden = hide_if_open(to, new_name);
        error = hidden < 0 ? -hidden : 0;
    }
    if (!error)
        error = rename_name(&node_of(parent)->handle, name, &to->handle, new_name);
    fuse_reply_err(req, error);
}

static void do_link(fuse_req_t req, fuse_ino_t number, fuse_ino_t new_parent, const char *name)
{
    struct node *node = node_of(number), *folder = node_of(new_parent);
    struct reply reply;
    struct stat st;
    int error;

    enter(req);
    begin(LINK, &node->handle);
    put_opaque(folder->handle.bytes, folder->handle.length);
    put_string(name);
    error = finish(&reply);
    if (!error && !get_optional_attributes(&reply, &st)) {
        error = fetch_attributes(node);
        st = node->last;
    }
    if (error)
        fuse_reply_err(req, error);
    else
        reply_entry(req, &node->handle, &st);
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static void do_open(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
    node_of(number)->opens++;
    if (fuse_reply_open(req, fi) != 0)
        node_of(number)->opens--;
}

static void do_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct node *folder = node_of(parent), *node;
    struct fuse_entry_param entry;
    struct handle handle;
    struct reply reply;
    struct stat st;
    int error;

    enter(req);
    begin(CREATE, &folder->handle);
    put_string(name);
    put_u32(fi->flags & O_EXCL ? GUARDED : UNCHECKED);
    put_new_attributes(req, folder, mode);
    error = finish(&reply);
    if (!error)
        error = take_new(folder, name, mode, &reply, &handle, &st);
    if (error) {
        fuse_reply_err(req, error);
        return;
    }
    node = fill_entry(&entry, &handle, &st);
    node->opens++;
    if (fuse_reply_create(req, &entry, fi) != 0) {
        node->opens--;
        node->lookups--;
        drop_node_if_unused(node);
    }
}

static void do_release(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
    struct node *node = node_of(number);

    (void)fi;
    rpc_waiting_process = 0;
    if (--node->opens == 0 && node->hidden) {
        remove_name(&node->hidden_in, node->hidden);
        free(node->hidden);
        node->hidden = NULL;
    }
    fuse_reply_err(req, 0);
    drop_node_if_unused(node);
}

static void do_flush(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
    (void)fi;
    enter(req);
    fuse_reply_err(req, commit(node_of(number)));
}

static void do_fsync(fuse_req_t req, fuse_ino_t number, int data_only, struct fuse_file_info *fi)
{
    (void)data_only;
    do_flush(req, number, fi);
}

static void do_read(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *fi)
{
    char *data = malloc(size);
    size_t done = 0;
    int end = 0, error = data ? 0 : ENOMEM;

    (void)fi;
    enter(req);
    while (!error && !end && done < size) {
        size_t part = size - done < read_size ? size - done : read_size, length;
        const void *bytes;
        struct reply reply;
        struct stat st;

        begin(READ, &node_of(number)->handle);
        put_u64((uint64_t)offset + done);
        put_u32((uint32_t)part);
        error = finish(&reply);
        if (error)
            break;
        get_optional_attributes(&reply, &st);
        get_u32(&reply); /* the count, which comes again with the data */
        end = get_u32(&reply) != 0;
        bytes = get_opaque(&reply, &length);
        if (reply.bad || length > part) {
            error = EIO;
            break;
        }
        if (length)
            memcpy(data + done, bytes, length);
        done += length;
        end |= length == 0;
    }
    if (error)
        fuse_reply_err(req, error);
    else
        fuse_reply_buf(req, data, done);
    free(data);
}

static void do_write(fuse_req_t req, fuse_ino_t number, const char *data, size_t size, off_t offset,
                     struct fuse_file_info *fi)
{
    struct node *node = node_of(number);
    size_t done = 0;
    int error = 0;

    (void)fi;
    enter(req);
    while (done < size) {
        size_t part = size - done < write_size ? size - done : write_size, written;
        struct reply reply;
        struct stat st;

        begin(WRITE, &node->handle);
        put_u64((uint64_t)offset + done);
        put_u32((uint32_t)part);
        put_u32(0); /* UNSTABLE: COMMIT follows with fsync or close */
        put_opaque(data + done, part);
        error = finish(&reply);
        if (error)
            break;
        if (get_change(&reply, &st))
            node->last = st;
        written = get_u32(&reply);
        if (written == 0 || written > part) {
            error = EIO;
            break;
        }
        node->written = 1;
        done += written;
    }
    if (done)
        fuse_reply_write(req, done);
    else
        fuse_reply_err(req, error);
}

/* --- folders ----------------------------------------------------------------------------------------------------- */

static void do_opendir(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
    struct listing *listing = calloc(1, sizeof *listing);

    (void)number;
    fi->fh = (uintptr_t)listing;
    if (!listing)
        fuse_reply_err(req, ENOMEM);
    else
        fuse_reply_open(req, fi);
}

static void empty(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        free(listing->entries[i].name);
    free(listing->entries);
    *listing = (struct listing){0};
}

static void do_releasedir(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
    struct listing *listing = (struct listing *)(uintptr_t)fi->fh;

    (void)number;
    empty(listing);
    free(listing);
    fuse_reply_err(req, 0);
}

/* One entry of a READDIRPLUS reply; returns its cookie. */
static uint64_t take_entry(struct reply *reply, struct listing *listing)
{
    struct entry *grown = realloc(listing->entries, (listing->count + 1) * sizeof *grown), *entry;
    const char *name;
    uint64_t cookie;
    size_t length;

    if (!grown)
        abort();
    listing->entries = grown;
    entry = &grown[listing->count++];
    memset(entry, 0, sizeof *entry);
    entry->fileid = get_u64(reply);
    name = get_opaque(reply, &length);
    entry->name = strndup(name ? name : "", length);
    cookie = get_u64(reply);
    entry->complete = get_optional_attributes(reply, &entry->attributes);
    entry->complete &= get_u32(reply) && get_handle(reply, &entry->handle);
    return cookie;
}

static int fill(struct node *folder, struct listing *listing)
{
    unsigned char verifier[8] = {0};
    uint64_t cookie = 0;
    int end = 0;

    while (!end) {
        const void *bytes;
        struct reply reply;
        struct stat st;
        int error;

        begin(READDIRPLUS, &folder->handle);
        put_u64(cookie);
        put_bytes(verifier, sizeof verifier);
        put_u32((uint32_t)list_size / 4);
        put_u32((uint32_t)list_size);
        error = finish(&reply);
        if (error)
            return error;
        get_optional_attributes(&reply, &st);
        bytes = get_bytes(&reply, 8);
        if (bytes)
            memcpy(verifier, bytes, 8);
        while (get_u32(&reply) && !reply.bad)
            cookie = take_entry(&reply, listing);
        end = get_u32(&reply) != 0;
        if (reply.bad)
            return EIO;
    }
    listing->filled = 1;
    return 0;
}

static int is_dot(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Add one entry to the answer; returns its size there, which may be more than there is room for. */
static size_t add_entry(fuse_req_t req, char *to, size_t room, const struct entry *entry, size_t offset, int plus)
{
    struct stat st = {.st_ino = entry->fileid, .st_mode = entry->attributes.st_mode};
    struct fuse_entry_param param = {.attr = st};
    struct node *node;
    size_t size;

    if (!plus)
        return fuse_add_direntry(req, to, room, entry->name, &st, (off_t)offset);
    /* Without a node the kernel asks by itself when it needs more than the name. */
    if (is_dot(entry->name) || !entry->complete)
        return fuse_add_direntry_plus(req, to, room, entry->name, &param, (off_t)offset);
    size = fuse_add_direntry_plus(req, NULL, 0, entry->name, NULL, 0);
    if (size > room)
        return size;
    node = fill_entry(&param, &entry->handle, &entry->attributes);
    if (node == &root)
        node->lookups--;
    return fuse_add_direntry_plus(req, to, room, entry->name, &param, (off_t)offset);
}

static void read_folder(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *fi, int plus)
{
    struct listing *listing = (struct listing *)(uintptr_t)fi->fh;
    size_t used = 0, next = (size_t)offset;
    char *data = malloc(size);
    int error = 0;

    enter(req);
    if (offset == 0 && listing->filled)
        empty(listing); /* rewinddir: as it is now */
    if (!listing->filled)
        error = fill(node_of(number), listing);
    if (error || !data) {
        empty(listing);
        fuse_reply_err(req, error ? error : ENOMEM);
        free(data);
        return;
    }
    while (next < listing->count) {
        size_t length = add_entry(req, data + used, size - used, &listing->entries[next], next + 1, plus);

        if (length > size - used)
            break;
        used += length;
        next++;
    }
    fuse_reply_buf(req, data, used);
    free(data);
}

static void do_readdir(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *fi)
{
    read_folder(req, number, size, offset, fi, 0);
}

static void do_readdirplus(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *fi)
{
    read_folder(req, number, size, offset, fi, 1);
}

static void do_statfs(fuse_req_t req, fuse_ino_t number)
{
    struct statvfs st = {.f_bsize = 65536, .f_frsize = 4096, .f_namemax = 255};
    struct reply reply;
    struct stat unused;
    int error;

    enter(req);
    begin(FSSTAT, &node_of(number)->handle);
    error = finish(&reply);
    if (error) {
        fuse_reply_err(req, error);
        return;
    }
    get_optional_attributes(&reply, &unused);
    st.f_blocks = get_u64(&reply) / st.f_frsize;
    st.f_bfree = get_u64(&reply) / st.f_frsize;
    st.f_bavail = get_u64(&reply) / st.f_frsize;
    st.f_files = get_u64(&reply);
    st.f_ffree = get_u64(&reply);
    st.f_favail = get_u64(&reply);
    fuse_reply_statfs(req, &st);
}

static const struct fuse_lowlevel_ops operations = {
    .init = do_init,
    .lookup = do_lookup,
    .forget = do_forget,
    .forget_multi = do_forget_multi,
    .getattr = do_getattr,
    .setattr = do_setattr,
    .readlink = do_readlink,
    .mknod = do_mknod,
    .mkdir = do_mkdir,
    .symlink = do_symlink,
    .unlink = do_unlink,
    .rmdir = do_rmdir,
    .rename = do_rename,
    .link = do_link,
    .open = do_open,
    .create = do_create,
    .release = do_release,
    .flush = do_flush,
    .fsync = do_fsync,
    .read = do_read,
    .write = do_write,
    .opendir = do_opendir,
    .releasedir = do_releasedir,
    .readdir = do_readdir,
    .readdirplus = do_readdirplus,
    .statfs = do_statfs,
};

/* --- mounting ---------------------------------------------------------------------------------------------------- */

static size_t at_most(uint32_t size, size_t limit)
{
    return size && size < limit ? size : limit;
}

/* Ask the server's mount daemon for the handle of the export, and NFS itself how much it takes at a time. */
static int open_export(char *name, const char *path)
{
    struct server mountd = {name, MOUNT_PROGRAM, 3, 0, -1};
    struct reply reply;
    struct stat st;
    int error;

    mountd.port = rpc_port(name, MOUNT_PROGRAM, 3);
    nfs.name = name;
    nfs.port = mountd.port < 0 ? mountd.port : rpc_port(name, NFS_PROGRAM, 3);
    if (nfs.port < 0)
        return -nfs.port;
    rpc_begin(&mountd, 1); /* MNT */
    put_string(path);
    error = -rpc_transact(&mountd, &reply);
    if (!error)
        error = to_errno(get_u32(&reply));
    if (!error && !get_handle(&reply, &root.handle))
        error = EIO;
    if (mountd.fd >= 0)
        close(mountd.fd);
    if (!error)
        error = fetch_attributes(&root);
    if (error)
        return error;
    begin(FSINFO, &root.handle);
    error = finish(&reply);
    if (error)
        return error;
    get_optional_attributes(&reply, &st);
    read_size = at_most(get_u32(&reply), 1 << 20);
    get_bytes(&reply, 8);
    write_size = at_most(get_u32(&reply), 1 << 20);
    get_bytes(&reply, 8);
    list_size = at_most(get_u32(&reply), 1 << 16);
    return 0;
}

/* Words of OPTIONS that the kernel's client knows and that mean nothing here are accepted in silence. */
static int read_options(char *options, int *read_only)
{
    char *rest = NULL;

    for (char *word = strtok_r(options, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        if (!strcmp(word, "ro"))
            *read_only = 1;
        else if (!strcmp(word, "rw"))
            *read_only = 0;
        else if (!strncmp(word, "vers=4", 6) || !strncmp(word, "nfsvers=4", 9)) {
            fprintf(stderr, "mount.nfs: Protocol not supported: this client speaks NFS version 3\n");
            return -1;
        } else if (!strcmp(word, "remount")) {
            fprintf(stderr, "mount.nfs: an NFS mount in user space cannot be remounted\n");
            return -1;
        }
    }
    return 0;
}

/* The kernel's client is no process: no signal ends it, and no service that is stopped takes it along. */
static void become_part_of_the_system(void)
{
    static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};
    FILE *processes;

    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    mkdir(MOUNT_CGROUP, 0755);
    processes = fopen(MOUNT_CGROUP "/cgroup.procs", "we");
    if (processes) {
        fprintf(processes, "0\n");
        fclose(processes);
    }
}

static int serve(const char *program, const char *source, const char *place, int read_only)
{
    char options[2048], name[256];
    char *arguments[] = {name, "-o", options, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, arguments);
    struct fuse_session *session;
    int failed;

    snprintf(name, sizeof name, "%s", program);
    snprintf(options, sizeof options, "allow_other,default_permissions,suid,dev,subtype=nfs,fsname=%s%s", source,
             read_only ? ",ro" : "");
    session = fuse_session_new(&args, &operations, sizeof operations, NULL);
    if (!session || fuse_session_mount(session, place) != 0)
        return MOUNT_FAILED;
    fuse_daemonize(0);
    become_part_of_the_system();
    rpc_fuse_fd = fuse_session_fd(session);
    failed = fuse_session_loop(session);
    fuse_session_unmount(session);
    fuse_session_destroy(session);
    return failed ? MOUNT_FAILED : 0;
}

int main(int argc, char **argv)
{
    char source[1024], server[1024];
    int read_only = 0, option, error;
    char *path;

    if (argc < 3) {
        fprintf(stderr, "usage: mount.nfs SERVER:/EXPORT MOUNTPOINT [-rwvnsf] [-o OPTIONS]\n");
        return 1;
    }
    snprintf(source, sizeof source, "%s", argv[1]);
    snprintf(server, sizeof server, "%s", argv[1]);
    optind = 3;
    while ((option = getopt(argc, argv, "o:rwvnsf")) != -1) {
        if (option == 'o' && read_options(optarg, &read_only) < 0)
            return MOUNT_FAILED;
        if (option == 'r')
            read_only = 1;
        if (option == 'f')
            return 0;
    }
    path = strchr(server, ':');
    if (!path || path[1] != '/') {
        fprintf(stderr, "mount.nfs: remote share not in 'host:dir' format\n");
        return MOUNT_FAILED;
    }
    *path++ = '\0';
    error = open_export(server, path);
    if (error) {
        /* In the words of the real one: what the server said, or what became of the way to it. */
        const char *how = error == EACCES || error == ENOENT ? " failed, reason given by server" : "";

        fprintf(stderr, "mount.nfs: %s%s%s: %s\n", *how ? "mounting " : "", source, how, strerror(error));
        return MOUNT_FAILED;
    }
    return serve(argv[0], source, argv[2], read_only);
}
