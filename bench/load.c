// Connections, one behind the other, through a published port.
//
//     load serve PORT               accepts and closes, until it is killed
//     load connect ADDRESS PORT     reads a count a line; makes that many connections, waits for
//                                   the other end to close each, and prints the nanoseconds of all
//                                   of them together, their median, 95th and 99th percentile
//
// A client ends its connections by a reset, so that none waits for stragglers with its port.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int die(const char *what)
{
	perror(what);
	exit(1);
}

static void serve(int port)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&any, sizeof any) || listen(fd, 1024))
		die("listen");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int client = accept(fd, NULL, NULL);
		if (client >= 0)
			close(client);
	}
}

static int compare(const void *a, const void *b)
{
	long long left = *(const long long *)a, right = *(const long long *)b;
	return (left > right) - (left < right);
}

static void make_connections(struct sockaddr_in *to, int count)
{
	long long *took = calloc(count, sizeof *took), begin = now();
	struct linger reset = {.l_onoff = 1};
	char nothing;

	for (int i = 0; i < count; i++) {
		long long start = now();
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (struct sockaddr *)to, sizeof *to) || recv(fd, &nothing, 1, 0) != 0)
			die("connect");
		took[i] = now() - start;
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		close(fd);
	}
	long long all = now() - begin;
	qsort(took, count, sizeof *took, compare);
	printf("%lld %lld %lld %lld\n", all, took[count / 2], took[count * 95 / 100],
	       took[count * 99 / 100]);
	fflush(stdout);
	free(took);
}

int main(int count, char **argument)
{
	char line[64];
	struct sockaddr_in to = {.sin_family = AF_INET};

	if (count == 3 && !strcmp(argument[1], "serve"))
		serve(atoi(argument[2]));
	if (count != 4 || inet_pton(AF_INET, argument[2], &to.sin_addr) != 1)
		return 2;
	to.sin_port = htons(atoi(argument[3]));
	while (fgets(line, sizeof line, stdin))
		make_connections(&to, atoi(line));
	return 0;
}
