/* master: greets on port 25 as Postfix does, and knows HELO, EHLO, NOOP and QUIT. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "guest.h"

static int say(int peer, const char *text)
{
    return write(peer, text, strlen(text)) > 0;
}

static void serve(int peer)
{
    struct timeval patience = {2, 0};
    char host[65] = "", text[128], line[512];
    ssize_t length;

    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    gethostname(host, sizeof host - 1);
    snprintf(text, sizeof text, "220 %s ESMTP Postfix\r\n", host);
    if (!say(peer, text))
        return;
    while ((length = read(peer, line, sizeof line - 1)) > 0) {
        line[length] = '\0';
        if (!strncasecmp(line, "QUIT", 4)) {
            say(peer, "221 2.0.0 Bye\r\n");
            return;
        }
        if (!strncasecmp(line, "HELO", 4) || !strncasecmp(line, "EHLO", 4)) {
            snprintf(text, sizeof text, "250 %s\r\n", host);
            say(peer, text);
        } else if (!strncasecmp(line, "NOOP", 4)) {
            say(peer, "250 2.0.0 Ok\r\n");
        } else {
            say(peer, "502 5.5.2 Error: command not recognized\r\n");
        }
    }
}

int postfix_main(int argc, char **argv)
{
    int fd;

    (void)argc;
    (void)argv;
    daemonize("/var/run/postfix-master.pid");
    fd = listen_on(25);
    if (fd < 0) {
        fprintf(stderr, "postfix/master: fatal: bind 0.0.0.0 port 25: Address already in use\n");
        return 1;
    }
    daemon_ready();
    for (;;) {
        int peer = accept(fd, NULL, NULL);

        if (peer >= 0) {
            serve(peer);
            close(peer);
        }
    }
}
