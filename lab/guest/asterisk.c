/* asterisk: the daemon, and the remote console as `asterisk -rx COMMAND` uses it. What is asked is answered by the
 * running daemon over its control socket, as the real one does, so an answer proves that it runs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define FOLDER "/var/run/asterisk"
#define CONTROL FOLDER "/asterisk.ctl"
#define VERSION "Asterisk 1.8.32.3 built by mockbuild @ builder.ringfree.biz on a x86_64 running Linux"

static struct sockaddr_un control = {.sun_family = AF_UNIX, .sun_path = CONTROL};

static void answer(const char *command, char *reply, size_t size, time_t started)
{
    long up = (long)(time(NULL) - started);

    if (!strcmp(command, "core show version"))
        snprintf(reply, size, VERSION "\n");
    else if (!strcmp(command, "core show uptime seconds"))
        snprintf(reply, size, "System uptime: %ld\nLast reload: %ld\n", up, up);
    else if (!strcmp(command, "core show channels count"))
        snprintf(reply, size, "0 active channels\n0 active calls\n0 calls processed\n");
    else if (!strcmp(command, "core stop now"))
        reply[0] = '\0';
    else
        snprintf(reply, size, "No such command '%s' (type 'core show help %s' for other possible commands)\n", command,
                 command);
}

static int serve(void)
{
    time_t started = time(NULL);
    int fd;

    mkdir("/var/run", 0755);
    mkdir(FOLDER, 0755);
    daemonize(FOLDER "/asterisk.pid");
    unlink(CONTROL);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&control, sizeof control) < 0 || listen(fd, 16) < 0) {
        fprintf(stderr, "Unable to create control socket " CONTROL ": %s\n", strerror(errno));
        return 1;
    }
    daemon_ready();
    for (;;) {
        char command[512] = "", reply[1024];
        int peer = accept(fd, NULL, NULL);
        ssize_t length;

        if (peer < 0)
            continue;
        length = read(peer, command, sizeof command - 1);
        if (length > 0) {
            answer(command, reply, sizeof reply, started);
            if (write(peer, reply, strlen(reply)) < 0)
                perror("write");
        }
        close(peer);
        if (!strcmp(command, "core stop now")) {
            unlink(CONTROL);
            return 0;
        }
    }
}

static int remote(const char *command)
{
    char reply[1024];
    ssize_t length;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&control, sizeof control) < 0) {
        fprintf(stderr, "Unable to connect to remote asterisk (does " CONTROL " exist?)\n");
        return 1;
    }
    if (write(fd, command, strlen(command)) < 0)
        return 1;
    while ((length = read(fd, reply, sizeof reply)) > 0)
        if (write(1, reply, length) < 0)
            return 1;
    return 0;
}

int asterisk_main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-V")) {
            puts("Asterisk 1.8.32.3");
            return 0;
        }
        if (argv[i][0] == '-' && strchr(argv[i], 'r') && strchr(argv[i], 'x'))
            return remote(i + 1 < argc ? argv[i + 1] : "");
    }
    return serve();
}
