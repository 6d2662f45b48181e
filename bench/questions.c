// Clients of a name service, each in a network namespace of its own, all in one process.
//
//     questions NAMES NETNS…
//
// NAMES has lines of a name and its IPv4 address. Each client asks for one name, waits for the answer,
// and then asks for the next. Reads lines from standard input:
//
//     ask ADDRESS PORT MILLISECONDS      for A, from a socket that stays
//     fresh ADDRESS PORT MILLISECONDS    for A, from another port for each question, as libc does; it
//                                        ends as well when a client has used all its ports
//     calm ADDRESS PORT MILLISECONDS     for A, but the next question waits for 250 microseconds
//     pair ADDRESS PORT MILLISECONDS     for A and AAAA at once, as getaddrinfo(3) does
//
// Answers each with one line: how many were answered (a pair counts once) and how many were not, the
// nanoseconds of all, the median of each answer's, their 99th percentile and the longest; the longest
// time without an answer to anybody, and the processor time of this process.
//
// A wrong answer ends it. All clients are in one thread, so that they need less time than who answers.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 256, PORTS = 256, NAMES = 8192, SAMPLES = 1 << 22, HEADER = 12, A = 1, AAAA = 28 };

static const long long PATIENCE = 2000000000LL; // for an answer
static const long long CALM = 250000LL;         // between an answer and the next question

static struct {
	unsigned char question[256]; // name, type and class
	int size;
	struct in_addr address;
} name_of[NAMES];

static struct client {
	int fd[PORTS]; // connected before the time is taken, so that asking costs little
	int at, name;
	unsigned short id; // the next one's is one more
	int missing;       // bits: which answers are still to come
	long long asked;
} client_of[MOST];

static int clients, names, polled;
static long long took[SAMPLES];

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void read_names(const char *path)
{
	char text[200], address[64];
	FILE *file = fopen(path, "r");
	if (!file)
		die(path);
	while (names < NAMES && fscanf(file, "%199s %63s", text, address) == 2) {
		unsigned char *at = name_of[names].question;
		for (char *label = strtok(text, "."); label; label = strtok(NULL, ".")) {
			size_t size = strlen(label);
			*at++ = size;
			memcpy(at, label, size);
			at += size;
		}
		memcpy(at, "\0\0\1\0\1", 5);
		name_of[names].size = at + 5 - name_of[names].question;
		inet_pton(AF_INET, address, &name_of[names++].address);
	}
	fclose(file);
	if (!names)
		die("no names");
}

static void make_client(const char *netns)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = clients};
	struct client *c = &client_of[clients];
	int fd = open(netns, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die(netns);
	close(fd);
	for (int i = 0; i < PORTS; i++) {
		c->fd[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (c->fd[i] < 0 || epoll_ctl(polled, EPOLL_CTL_ADD, c->fd[i], &event))
			die("socket");
	}
	c->at = PORTS - 1;
	c->name = clients++ * 7919;
}

// Those used before get another port: connecting to no address gives the present one up.
static void reconnect(struct client *c, const struct sockaddr_in *to)
{
	struct sockaddr nothing = {.sa_family = AF_UNSPEC};
	for (; c->at >= 0; c->at--) {
		int fd = c->fd[c->at];
		if (connect(fd, &nothing, sizeof nothing) || connect(fd, (void *)to, sizeof *to))
			die("connect");
	}
	c->at = 0;
}

static void send_question(struct client *c, int type)
{
	unsigned char message[HEADER + 256] = {c->id >> 8, c->id, 1, 0, 0, 1};
	int size = name_of[c->name].size;
	memcpy(message + HEADER, name_of[c->name].question, size);
	message[HEADER + size - 3] = type;
	if (send(c->fd[c->at], message, HEADER + size, 0) < 0 && errno != ECONNREFUSED)
		die("send");
}

// The next question of a client; with `pair`, the A has an even id, and the AAAA that and one.
static void ask(struct client *c, int pair)
{
	c->name = (c->name + 1) % names;
	c->id = (c->id | 1) + 1;
	c->missing = pair ? 3 : 1;
	c->asked = now();
	send_question(c, A);
	if (pair) {
		c->id++;
		send_question(c, AAAA);
	}
}

// Which of the questions a message answers, as a bit; 0 if it is late.
static int answered(const struct client *c, const unsigned char *message, ssize_t size)
{
	int length = name_of[c->name].size, which = message[1] & 1;
	unsigned short id = message[0] << 8 | message[1];
	if (size < HEADER + length || (id | 1) != (c->id | 1))
		return 0;
	int type = which ? AAAA : A, count = message[6] << 8 | message[7];
	if (message[HEADER + length - 3] != type || message[3] & 15 ||
	    memcmp(message + HEADER, name_of[c->name].question, length - 3))
		goto wrong;
	// The address is behind the name's reference, type, class, TTL and length of the first record.
	if (type == A && (count != 1 || size < HEADER + length + 16 ||
			  memcmp(message + HEADER + length + 12, &name_of[c->name].address, 4)))
		goto wrong;
	return 1 << which;
wrong:
	fprintf(stderr, "questions: a wrong answer about name %d, type %d: code %d, %d records\n", c->name,
		type, message[3] & 15, count);
	exit(1);
}

static int compare(const void *a, const void *b)
{
	long long left = *(const long long *)a, right = *(const long long *)b;
	return (left > right) - (left < right);
}

static long long processor(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void run(int pair, int fresh, int calm, const struct sockaddr_in *to, int milliseconds)
{
	struct epoll_event events[MOST];
	unsigned char message[4096];
	int count = 0, lost = 0, asking = clients;

	for (int i = 0; i < clients; i++)
		reconnect(&client_of[i], to);
	long long used = processor(), begun = now(), end = begun + milliseconds * 1000000LL;
	long long last = begun, gap = 0, looked = begun;
	for (int i = 0; i < clients; i++)
		ask(&client_of[i], pair);
	while (asking) {
		int ready = epoll_wait(polled, events, MOST, 200);
		long long time = now();
		for (int i = 0; i < ready; i++) {
			struct client *c = &client_of[events[i].data.u32];
			ssize_t size = recv(c->fd[c->at], message, sizeof message, 0);
			if (size < 0 || !c->missing)
				continue; // nobody listens: it is asked again once the patience has ended
			c->missing &= ~answered(c, message, size);
			if (c->missing)
				continue;
			time = now();
			if (count < SAMPLES)
				took[count++] = time - c->asked;
			if (time - last > gap && last < end)
				gap = time - last;
			last = time;
			if (time >= end) {
				asking--;
				continue;
			}
			if (fresh && ++c->at == PORTS - 1)
				end = time;
			while (calm && now() - time < CALM)
				; // with one client, this keeps nobody waiting
			ask(c, pair);
		}
		if (time - looked < 100000000LL)
			continue;
		looked = time;
		for (int i = 0; i < clients; i++) {
			struct client *c = &client_of[i];
			if (!c->missing || time - c->asked < PATIENCE)
				continue;
			lost++;
			c->missing = 0;
			if (time < end)
				ask(c, pair);
			else
				asking--;
		}
	}
	qsort(took, count, sizeof *took, compare);
	printf("%d %d %lld %lld %lld %lld %lld %lld\n", count, lost, last - begun,
	       count ? took[count / 2] : 0, count ? took[count * 99LL / 100] : 0,
	       count ? took[count - 1] : 0, gap, processor() - used);
}

int main(int count, char **argument)
{
	char line[128], verb[16], address[64];
	int port, milliseconds, home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (count < 3 || count - 2 > MOST)
		return 2;
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files))
		die("getrlimit");
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files))
		die("setrlimit");
	setlinebuf(stdout);
	polled = epoll_create1(EPOLL_CLOEXEC);
	read_names(argument[1]);
	for (int i = 2; i < count; i++)
		make_client(argument[i]);
	if (setns(home, CLONE_NEWNET))
		die("setns");
	while (fgets(line, sizeof line, stdin)) {
		struct sockaddr_in to = {.sin_family = AF_INET};
		if (sscanf(line, "%15s %63s %d %d", verb, address, &port, &milliseconds) != 4 ||
		    inet_pton(AF_INET, address, &to.sin_addr) != 1)
			return 2;
		to.sin_port = htons(port);
		run(!strcmp(verb, "pair"), !strcmp(verb, "fresh"), !strcmp(verb, "calm"), &to, milliseconds);
	}
	return 0;
}
