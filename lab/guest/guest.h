/* The programs of the lab's containers: one static binary that acts by the name it is called by. */
#ifndef GUEST_H
#define GUEST_H

int init_main(int argc, char **argv);
int asterisk_main(int argc, char **argv);
int httpd_main(int argc, char **argv);
int postfix_main(int argc, char **argv);
int recorder_main(int argc, char **argv);

/* Become a daemon with its pid in PIDFILE; the caller of the program returns when the daemon is ready. */
void daemonize(const char *pidfile);
/* Tell the caller of the program that the daemon is ready to serve. */
void daemon_ready(void);
/* A listening TCP socket on PORT of every address, or -1. */
int listen_on(int port);

#endif
