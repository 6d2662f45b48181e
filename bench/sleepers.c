// Sandboxes without a container: processes that sleep, each in a network namespace of its own.
//
// Reads commands, a line each, and answers each with one line:
//
//     new         the pid of one more
//     end PID     ok, once that one has been killed and reaped
//
// All of them end with this process.

#include "sleeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

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
		pid = sleeper();
		if (pid < 0) {
			perror("sleepers");
			return 1;
		}
		printf("%d\n", pid);
	}
	return 0;
}
