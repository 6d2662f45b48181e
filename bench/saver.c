// Plays the end of runc's create: an init in a network namespace of its own, then the save of its
// state, by which the gate holds runc.
//
//     saver ROOT BUNDLE ID     prints the nanoseconds of the open of `state-<random>` and the
//                             container's pid, and waits
//
// The container ends when standard input does. BUNDLE has its `config.json`.

#include "sleeper.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// Field 22 of /proc/<pid>/stat (proc(5)): when it was started.
static unsigned long long start_of(int pid)
{
	char path[64], text[1024];
	unsigned long long start = 0;
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	int fd = open(path, O_RDONLY);
	ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	close(fd);
	text[size < 0 ? 0 : size] = 0;
	char *at = strrchr(text, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at)
		sscanf(at, "%llu", &start);
	return start;
}

int main(int count, char **argument)
{
	char directory[512], save[600], state[600], rest[16];
	if (count != 5 || chdir(argument[2]))
		return 2;
	snprintf(directory, sizeof directory, "%s/%s", argument[1], argument[3]);
	snprintf(save, sizeof save, "%s/state-1", directory);
	snprintf(state, sizeof state, "%s/state.json", directory);
	if (mkdir(directory, 0711))
		return 1;
	int pid = sleeper();
	unsigned long long start = start_of(pid);
	long long begin = now();
	int fd = open(save, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	long long took = now() - begin;
	if (pid < 0 || fd < 0)
		return 1;
	dprintf(fd,
		"{\"id\": \"%s\", \"init_process_pid\": %d, \"init_process_start\": %llu,"
		" \"config\": {\"namespaces\": [{\"type\": \"NEWNET\", \"path\": \"\"}],"
		" \"labels\": [\"bundle=%s\", \"io.watcher.ports=%s\"]}}",
		argument[3], pid, start, argument[2], argument[4]);
	close(fd);
	if (rename(save, state))
		return 1;
	printf("%lld %d\n", took, pid);
	fflush(stdout);
	while (read(0, rest, sizeof rest) > 0)
		;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unlink(state);
	return rmdir(directory) != 0;
}
