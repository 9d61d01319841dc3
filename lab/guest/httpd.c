/* httpd: answers every request on port 80 as Apache's front page would. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "guest.h"

static void serve(int peer)
{
    struct timeval patience = {2, 0};
    char request[2048], host[65] = "", body[256], reply[768];
    int length;

    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (read(peer, request, sizeof request) <= 0)
        return;
    gethostname(host, sizeof host - 1);
    snprintf(body, sizeof body, "<html><body><h1>It works!</h1><p>%s</p></body></html>\n", host);
    length = snprintf(reply, sizeof reply,
                      "HTTP/1.1 200 OK\r\nServer: Apache/2.2.15 (CentOS)\r\nContent-Type: text/html\r\n"
                      "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                      strlen(body), body);
    if (write(peer, reply, length) < 0)
        perror("write");
}

int httpd_main(int argc, char **argv)
{
    int fd;

    (void)argc;
    (void)argv;
    daemonize("/var/run/httpd.pid");
    fd = listen_on(80);
    if (fd < 0) {
        fprintf(stderr, "(98)Address already in use: could not bind to address 0.0.0.0:80\n");
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
