/* recorder: appends numbered, checksummed records, so that a lost, doubled or altered byte shows (lab/records.py).
 *
 *   R <sequence> <boot> <kind> <milliseconds> <hash of the record before> <hash of this line so far>
 *
 * kind is start, beat or stop; hashes are FNV-1a, 64 bits. It goes on where the last record ended. A stop record is
 * written on SIGTERM, so a boot that has none ended by force or has lost its end. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define FOLDER "/var/spool/records"
#define RECORDS FOLDER "/records"
#define BEAT_NS 250000000L
#define LONGEST 256

static volatile sig_atomic_t asked_to_stop;
static uint64_t sequence, boot, previous;
static int fd;

static void on_term(int signal_number)
{
    (void)signal_number;
    asked_to_stop = 1;
}

static uint64_t fnv(const char *text, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return hash;
}

static int append(const char *kind)
{
    char line[LONGEST];
    struct timespec now;
    uint64_t hash;
    int length;

    clock_gettime(CLOCK_REALTIME, &now);
    length = snprintf(line, sizeof line, "R %" PRIu64 " %" PRIu64 " %s %" PRId64 " %016" PRIx64 " ", sequence + 1, boot,
                      kind, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, previous);
    hash = fnv(line, length);
    length += snprintf(line + length, sizeof line - length, "%016" PRIx64 "\n", hash);
    if (write(fd, line, length) != length)
        return -1;
    sequence++;
    previous = hash;
    return 0;
}

/* Take up the last whole record; a torn one after it (the power went) is cut off, as it was never acknowledged. */
static int resume(void)
{
    char tail[LONGEST * 2 + 1];
    off_t size = lseek(fd, 0, SEEK_END);
    off_t from = size > LONGEST * 2 ? size - LONGEST * 2 : 0;
    ssize_t length = pread(fd, tail, sizeof tail - 1, from);
    char *end, *line;

    if (length < 0)
        return -1;
    tail[length] = '\0';
    end = memrchr(tail, '\n', length);
    if (!end)
        return ftruncate(fd, 0);
    if (from + (end + 1 - tail) < size && ftruncate(fd, from + (end + 1 - tail)) < 0)
        return -1;
    line = memrchr(tail, '\n', end - tail);
    line = line ? line + 1 : tail;
    if (sscanf(line, "R %" SCNu64 " %" SCNu64 " %*s %*d %*x %" SCNx64, &sequence, &boot, &previous) != 3) {
        fprintf(stderr, "recorder: the last record in " RECORDS " cannot be read\n");
        return -1;
    }
    return 0;
}

int recorder_main(int argc, char **argv)
{
    struct timespec beat = {0, BEAT_NS};
    struct sigaction action = {.sa_handler = on_term};

    (void)argc;
    (void)argv;
    daemonize("/var/run/recorder.pid");
    mkdir("/var/spool", 0755);
    mkdir(FOLDER, 0755);
    fd = open(RECORDS, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || resume() < 0) {
        fprintf(stderr, "recorder: " RECORDS ": %s\n", strerror(errno));
        return 1;
    }
    sigaction(SIGTERM, &action, NULL);
    boot++;
    if (append("start") < 0)
        return 1;
    daemon_ready();
    while (!asked_to_stop) {
        nanosleep(&beat, NULL);
        if (!asked_to_stop && append("beat") < 0)
            return 1;
    }
    return append("stop") < 0;
}
