// Sandboxes without a container: processes that sleep, each in a network namespace of its own.
//
// Reads commands, a line each, and answers each with one line:
//
//     new         the pid of one more
//     end PID     ok, once that one has been killed and reaped
//
// All of them end with this process.

#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void sleeper(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(0);
	close(1);
	for (;;)
		pause();
}

int main(void)
{
	char line[64];
	setlinebuf(stdout);
	while (fgets(line, sizeof line, stdin)) {
		int pid = strncmp(line, "end ", 4) ? 0 : atoi(line + 4);
		if (pid > 0) {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
			puts("ok");
			continue;
		}
		pid = syscall(SYS_clone, CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0);
		if (pid < 0) {
			perror("sleepers: clone");
			return 1;
		}
		if (pid == 0)
			sleeper();
		printf("%d\n", pid);
	}
	return 0;
}
