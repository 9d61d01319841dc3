/* Which program is meant, and what the daemons share. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"

static int ready_pipe = -1;

void daemonize(const char *pidfile)
{
    int ends[2];
    char answer;
    FILE *file;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
        perror("fork");
        exit(1);
    }
    if (pid) {
        close(ends[1]);
        /* The daemon says one byte when it serves; an end without it is a failed start. */
        exit(read(ends[0], &answer, 1) == 1 ? 0 : 1);
    }
    close(ends[0]);
    ready_pipe = ends[1];
    setsid();
    if (chdir("/") < 0)
        exit(1);
    umask(022);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    file = fopen(pidfile, "w");
    if (file) {
        fprintf(file, "%d\n", (int)getpid());
        fclose(file);
    }
}

void daemon_ready(void)
{
    int null = open("/dev/null", O_RDWR);

    if (write(ready_pipe, "r", 1) != 1)
        exit(1);
    close(ready_pipe);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    if (null > 2)
        close(null);
}

int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 64) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    const char *name = slash ? slash + 1 : argv[0];

    if (!strcmp(name, "init"))
        return init_main(argc, argv);
    if (!strcmp(name, "asterisk"))
        return asterisk_main(argc, argv);
    if (!strcmp(name, "httpd"))
        return httpd_main(argc, argv);
    if (!strcmp(name, "master"))
        return postfix_main(argc, argv);
    if (!strcmp(name, "recorder"))
        return recorder_main(argc, argv);
    fprintf(stderr, "%s: not a program of this container\n", name);
    return 127;
}
