/* init: runs /etc/rc.d/rc, reaps, and shuts down as busybox init does when busybox's halt, poweroff or reboot tell
 * it (SIGUSR1, SIGUSR2, SIGTERM), but without its two fixed seconds: it goes on as soon as nothing runs any more. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define RC "/etc/rc.d/rc"
#define GRACE_MS 3000 /* between SIGTERM and SIGKILL */

static pid_t start_rc(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setsid();
        execl(RC, RC, "start", (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* Reap what ended; whether any process is left besides init. */
static int others_left(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return kill(-1, 0) == 0 || errno != ESRCH;
}

static void wait_for_others(int milliseconds)
{
    struct timespec tick = {0, 5000000};

    for (int spent = 0; spent < milliseconds && others_left(); spent += 5)
        nanosleep(&tick, NULL);
}

static void shut_down(int how)
{
    kill(-1, SIGTERM);
    kill(-1, SIGCONT);
    wait_for_others(GRACE_MS);
    kill(-1, SIGKILL);
    wait_for_others(1000);
    sync();
    reboot(how);
    /* Not reached where reboot(2) ends the process id namespace. */
    _exit(0);
}

int init_main(int argc, char **argv)
{
    sigset_t all;

    (void)argc;
    (void)argv;
    if (getpid() != 1) {
        fprintf(stderr, "init: must be run as PID 1\n");
        return 1;
    }
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    setsid();
    start_rc();
    for (;;) {
        int signal_number = 0;

        sigwait(&all, &signal_number);
        switch (signal_number) {
        case SIGUSR1:
            shut_down(RB_HALT_SYSTEM);
            break;
        case SIGUSR2:
            shut_down(RB_POWER_OFF);
            break;
        case SIGTERM:
        case SIGINT:
            shut_down(RB_AUTOBOOT);
            break;
        default:
            while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
        }
    }
}
