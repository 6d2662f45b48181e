// The floor: the kernel's own price of a network for one sandbox.
//
// Sends the netlink messages, the nftables commands and the mount of this program's attach and
// detach, in the same order and as many to a send, from one process with everything open; and does
// nothing else: no lease, no look at what is there, no log. Times each by CLOCK_MONOTONIC.
//
//     floor PINS [BRIDGE]
//
// without a BRIDGE is that of a routed network: each sandbox's address is a route by its own link. It
// reads commands, a line each, and answers each with one line:
//
//     nft FILE                           ok
//     attach PID NAME IP PREFIX MAC PORT  nanoseconds in all, then of pin, link, guard, inside, nft
//     detach PID NAME PORT                nanoseconds until it is cut off, then of nft, link, pin,
//                                         and after them of the RTM_DELLINK until the link is gone
//
// Whatever fails ends it with a word on stderr: a floor that skips a step would be none.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <net/if.h>
#include <nftables/libnftables.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define GROUP 0x77617463u
#define DOOMED 0x776e6463u
#define SKIP_STATS 8u
#define CHECK(what) do { if ((what) < 0) die(#what); } while (0)

static char buffer[1 << 16], answer[1 << 16];
static size_t used;
static unsigned sequence;
static int home, route;
static const char *pins, *gateway = "172.19.0.1", *next_hop = "169.254.1.1";
static const char *outer_mac = "02:42:a9:fe:01:01";
static const char *bridge_name;
static unsigned bridge;
static struct nft_ctx *nft;

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// --- netlink messages, one behind the other in the buffer -------------------------------------

static size_t message_at;

static void *room(size_t size)
{
	void *at = buffer + used;
	memset(at, 0, NLMSG_ALIGN(size));
	used += NLMSG_ALIGN(size);
	return at;
}

static void begin(int type, int flags)
{
	message_at = used;
	struct nlmsghdr *header = room(sizeof *header);
	header->nlmsg_type = type;
	header->nlmsg_flags = NLM_F_REQUEST | flags;
	header->nlmsg_seq = ++sequence;
}

static void end(void)
{
	((struct nlmsghdr *)(buffer + message_at))->nlmsg_len = used - message_at;
}

static size_t put(int type, const void *value, size_t size)
{
	size_t at = used;
	struct nlattr *attribute = room(sizeof *attribute);
	attribute->nla_type = type;
	attribute->nla_len = sizeof *attribute + size;
	if (size)
		memcpy(room(size), value, size);
	return at;
}

static size_t nest(int type) { return put(type, NULL, 0); }
static void text(int type, const char *value) { put(type, value, strlen(value) + 1); }
static void number(int type, unsigned value) { put(type, &value, sizeof value); }
static void octet(int type, unsigned char value) { put(type, &value, sizeof value); }
static void close_nest(size_t at) { ((struct nlattr *)(buffer + at))->nla_len = used - at; }

static void read_mac(unsigned char *at, const char *value)
{
	if (sscanf(value, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", at, at + 1, at + 2, at + 3, at + 4,
		   at + 5) != 6)
		die(value);
}

static struct in_addr read_ipv4(const char *value)
{
	struct in_addr address;
	if (inet_pton(AF_INET, value, &address) != 1)
		die(value);
	return address;
}

static void mac(int type, const char *value)
{
	unsigned char at[6];
	read_mac(at, value);
	put(type, at, sizeof at);
}

static void ipv4(int type, const char *value)
{
	struct in_addr address = read_ipv4(value);
	put(type, &address, sizeof address);
}

static void link_message(int type, int flags, int up)
{
	begin(type, flags);
	struct ifinfomsg *link = room(sizeof *link);
	if (up)
		link->ifi_flags = link->ifi_change = IFF_UP;
}

static void no_link_local(void)
{
	size_t spec = nest(IFLA_AF_SPEC), inet6 = nest(AF_INET6);
	octet(IFLA_INET6_ADDR_GEN_MODE, 1);
	close_nest(inet6);
	close_nest(spec);
}

// A route by an interface: to an address of that link, or where there is none, by the gateway.
static void route_message(int index, const char *to, const char *via, const char *source)
{
	begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
	struct rtmsg *way = room(sizeof *way);
	way->rtm_family = AF_INET;
	way->rtm_table = RT_TABLE_MAIN;
	way->rtm_protocol = to ? RTPROT_KERNEL : RTPROT_STATIC;
	way->rtm_scope = to ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	way->rtm_type = RTN_UNICAST;
	way->rtm_dst_len = to ? 32 : 0;
	number(RTA_OIF, index);
	if (to)
		ipv4(RTA_DST, to);
	if (via)
		ipv4(RTA_GATEWAY, via);
	if (source)
		ipv4(RTA_PREFSRC, source);
	end();
}

static void neighbour_message(int index, const char *ip, const char *its)
{
	begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
	struct ndmsg *neighbour = room(sizeof *neighbour);
	neighbour->ndm_family = AF_INET;
	neighbour->ndm_ifindex = index;
	neighbour->ndm_state = NUD_PERMANENT;
	ipv4(NDA_DST, ip);
	mac(NDA_LLADDR, its);
	end();
}

static int netlink(void)
{
	struct sockaddr_nl any = {.nl_family = AF_NETLINK};
	int one = 1, fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	CHECK(fd);
	CHECK(setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof one));
	CHECK(setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one));
	CHECK(setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof one));
	CHECK(bind(fd, (struct sockaddr *)&any, sizeof any));
	return fd;
}

// The index of the interface of that name where the socket was made.
static int index_of(int fd, const char *name)
{
	struct ifreq of = {0};
	snprintf(of.ifr_name, sizeof of.ifr_name, "%s", name);
	CHECK(ioctl(fd, SIOCGIFINDEX, &of));
	return of.ifr_ifindex;
}

// Sends the one request in the buffer, for an interface, and reads the answer: its index.
static int fetch(int fd)
{
	CHECK(send(fd, buffer, used, 0));
	CHECK(recv(fd, answer, sizeof answer, 0));
	struct nlmsghdr *header = (struct nlmsghdr *)answer;
	used = 0;
	if (header->nlmsg_type != RTM_NEWLINK) {
		errno = ENODEV;
		die("no such link");
	}
	return ((struct ifinfomsg *)NLMSG_DATA(header))->ifi_index;
}

// Sends what is in the buffer and waits for the acknowledgement of the last message.
static void deliver(int fd)
{
	((struct nlmsghdr *)(buffer + message_at))->nlmsg_flags |= NLM_F_ACK;
	CHECK(send(fd, buffer, used, 0));
	for (unsigned seen = 0; seen != sequence;) {
		int size = recv(fd, answer, sizeof answer, 0);
		CHECK(size);
		struct nlmsghdr *header = (struct nlmsghdr *)answer;
		for (; NLMSG_OK(header, (unsigned)size); header = NLMSG_NEXT(header, size)) {
			struct nlmsgerr *error = NLMSG_DATA(header);
			if (header->nlmsg_type != NLMSG_ERROR)
				continue;
			seen = header->nlmsg_seq;
			if (error->error) {
				errno = -error->error;
				die("netlink");
			}
		}
	}
	used = 0;
}

// --- the steps --------------------------------------------------------------------------------

static void set_up(const char *host_name, const char *version, const char *setting)
{
	char path[128];
	snprintf(path, sizeof path, "/proc/sys/net/%s/conf/%s/%s", version, host_name, setting);
	int file = open(path, O_WRONLY | O_CLOEXEC);
	CHECK(file);
	CHECK(write(file, "1", 1));
	close(file);
}

// What both ends of the pair have.
static void common(void)
{
	number(IFLA_MTU, 1500);
	number(IFLA_GROUP, GROUP);
	number(IFLA_NUM_TX_QUEUES, 1);
	number(IFLA_NUM_RX_QUEUES, 1);
}

// Its index. It is down until its guard is there.
static int make_link(const char *pid, const char *its, int netns)
{
	char host_name[IFNAMSIZ];
	snprintf(host_name, sizeof host_name, "netnsv0-%s", pid);

	link_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0);
	text(IFLA_IFNAME, host_name);
	number(IFLA_MASTER, bridge);
	common();
	size_t info = nest(IFLA_LINKINFO);
	text(IFLA_INFO_KIND, "veth");
	size_t data = nest(IFLA_INFO_DATA), peer = nest(VETH_INFO_PEER);
	room(sizeof(struct ifinfomsg));
	text(IFLA_IFNAME, "eth0");
	number(IFLA_NET_NS_FD, netns);
	mac(IFLA_ADDRESS, its);
	common();
	close_nest(peer);
	close_nest(data);
	close_nest(info);
	if (!bridge)
		mac(IFLA_ADDRESS, outer_mac);
	end();
	deliver(route);

	set_up(host_name, "ipv6", "disable_ipv6");
	if (!bridge)
		set_up(host_name, "ipv4", "route_localnet");
	return index_of(route, host_name);
}

// The guard: a classic BPF program by which the host end takes no frame but those of its sandbox.
static void make_guard(int index, const char *ip, const char *its)
{
	enum { PASS = 0xffffffff, DROP = TC_ACT_SHOT, ARP_SIZE = 42 };
	unsigned char m[6];
	read_mac(m, its);
	unsigned high = (unsigned)m[0] << 24 | m[1] << 16 | m[2] << 8 | m[3], low = m[4] << 8 | m[5];
	unsigned own = ntohl(read_ipv4(ip).s_addr);
#define LOAD(size, at) BPF_STMT(BPF_LD | BPF_ABS | size, at)
#define LENGTH BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0)
#define EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define AT_LEAST(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, value, yes, no)
	struct sock_filter code[] = {
		/*  0 */ LENGTH, AT_LEAST(34, 0, 25),
		/*  2 */ LOAD(BPF_W, 6), EQUAL(high, 0, 23),
		/*  4 */ LOAD(BPF_H, 10), EQUAL(low, 0, 21),
		/*  6 */ LOAD(BPF_W, SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT), EQUAL(0, 0, 19),
		/*  8 */ LOAD(BPF_H, 12), EQUAL(ETH_P_IP, 0, 2),
		/* 10 */ LOAD(BPF_W, 26), EQUAL(own, 14, 15),
		/* 12 */ EQUAL(ETH_P_ARP, 0, 14),
		/* 13 */ LENGTH, AT_LEAST(ARP_SIZE, 0, 12),
		/* 15 */ LOAD(BPF_W, 14), EQUAL(0x00010800, 0, 10), // Ethernet and IPv4
		/* 17 */ LOAD(BPF_H, 18), EQUAL(0x0604, 0, 8),      // and their sizes
		/* 19 */ LOAD(BPF_W, 22), EQUAL(high, 0, 6),
		/* 21 */ LOAD(BPF_H, 26), EQUAL(low, 0, 4),
		/* 23 */ LOAD(BPF_W, 28), EQUAL(own, 1, 0), EQUAL(0, 0, 1),
		/* 26 */ BPF_STMT(BPF_RET | BPF_K, PASS),
		/* 27 */ BPF_STMT(BPF_RET | BPF_K, DROP),
	};

	begin(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL);
	struct tcmsg *of = room(sizeof *of);
	of->tcm_ifindex = index;
	of->tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0);
	of->tcm_parent = TC_H_INGRESS;
	text(TCA_KIND, "ingress");
	end();

	begin(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL);
	of = room(sizeof *of);
	of->tcm_ifindex = index;
	of->tcm_parent = TC_H_MAKE(TC_H_INGRESS, TC_H_MIN_INGRESS);
	of->tcm_info = TC_H_MAKE(1 << 16, htons(ETH_P_ALL)); // the first priority, all protocols
	text(TCA_KIND, "bpf");
	size_t options = nest(TCA_OPTIONS);
	unsigned short length = sizeof code / sizeof *code;
	put(TCA_BPF_OPS_LEN, &length, sizeof length);
	put(TCA_BPF_OPS, code, sizeof code);
	number(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	close_nest(options);
	end();
	deliver(route);
}

static void set_link_up(int index, const char *name, const char *ip, const char *its)
{
	char alias[256];
	snprintf(alias, sizeof alias, "watcher %s", name);

	link_message(RTM_NEWLINK, 0, 1);
	((struct ifinfomsg *)NLMSG_DATA((struct nlmsghdr *)(buffer + message_at)))->ifi_index = index;
	text(IFLA_IFALIAS, alias);
	if (bridge) {
		size_t info = nest(IFLA_LINKINFO);
		text(IFLA_INFO_SLAVE_KIND, "bridge");
		size_t data = nest(IFLA_INFO_SLAVE_DATA);
		octet(IFLA_BRPORT_MODE, 1);
		octet(IFLA_BRPORT_ISOLATED, 0);
		close_nest(data);
		close_nest(info);
	}
	no_link_local();
	end();
	if (!bridge) {
		route_message(index, ip, NULL, gateway);
		neighbour_message(index, ip, its);
	}
	deliver(route);
}

static void fill_inside(int netns, const char *ip, int prefix)
{
	struct in_addr address, broadcast;
	CHECK(setns(netns, CLONE_NEWNET));
	int inside = netlink();
	CHECK(setns(home, CLONE_NEWNET));
	int index = index_of(inside, "eth0");
	if (inet_pton(AF_INET, ip, &address) != 1)
		die("inside");
	broadcast.s_addr = address.s_addr | htonl(prefix < 32 ? 0xffffffffu >> prefix : 0);

	link_message(RTM_NEWLINK, 0, 0);
	text(IFLA_IFNAME, "eth0");
	no_link_local();
	end();
	link_message(RTM_NEWLINK, 0, 1);
	text(IFLA_IFNAME, "lo");
	end();
	link_message(RTM_NEWLINK, 0, 1);
	text(IFLA_IFNAME, "eth0");
	end();

	begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
	struct ifaddrmsg *of = room(sizeof *of);
	of->ifa_family = AF_INET;
	of->ifa_prefixlen = prefix;
	of->ifa_index = index;
	put(IFA_LOCAL, &address, sizeof address);
	put(IFA_ADDRESS, &address, sizeof address);
	put(IFA_BROADCAST, &broadcast, sizeof broadcast);
	end();

	if (!bridge) {
		neighbour_message(index, next_hop, outer_mac);
		route_message(index, next_hop, NULL, NULL);
	}
	route_message(index, NULL, bridge ? gateway : next_hop, NULL);
	deliver(inside);
	close(inside);
}

// The published port: all that a sandbox has in nftables, for its guard is on the link.
static void rules(const char *verb, const char *port, const char *value)
{
	char commands[256];
	snprintf(commands, sizeof commands, "%s element inet watcher port4 { tcp . %s%s }\n", verb,
		 port, value);
	if (nft_run_cmd_from_buffer(nft, commands))
		die(nft_ctx_get_error_buffer(nft));
}

static void make_pin(const char *name, int netns)
{
	char path[512], source[64];
	snprintf(path, sizeof path, "%s/%s", pins, name);
	snprintf(source, sizeof source, "/proc/self/fd/%d", netns);
	int file = open(path, O_CREAT | O_EXCL | O_RDONLY | O_CLOEXEC, 0400);
	CHECK(file);
	close(file);
	CHECK(mount(source, path, NULL, MS_BIND, NULL));
}

static void remove_pin(const char *name)
{
	char path[512];
	snprintf(path, sizeof path, "%s/%s", pins, name);
	CHECK(umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW));
	CHECK(unlink(path));
}

static int ask_link(const char *pid)
{
	char host_name[IFNAMSIZ];
	snprintf(host_name, sizeof host_name, "netnsv0-%s", pid);
	link_message(RTM_GETLINK, 0, 0);
	text(IFLA_IFNAME, host_name);
	number(IFLA_EXT_MASK, SKIP_STATS);
	end();
	return fetch(route);
}

// Has the kernel see the carriers of the host end, and of its bridge.
static void see_carriers(const char *pid)
{
	struct ethtool_value value = {.cmd = ETHTOOL_GLINK};
	struct ifreq of = {.ifr_data = (char *)&value};
	snprintf(of.ifr_name, sizeof of.ifr_name, "netnsv0-%s", pid);
	CHECK(ioctl(route, SIOCETHTOOL, &of));
	if (bridge) {
		snprintf(of.ifr_name, sizeof of.ifr_name, "%s", bridge_name);
		CHECK(ioctl(route, SIOCETHTOOL, &of));
	}
}

static void cut_off(int index)
{
	link_message(RTM_NEWLINK, 0, 0);
	struct ifinfomsg *link = NLMSG_DATA((struct nlmsghdr *)(buffer + message_at));
	link->ifi_index = index;
	link->ifi_change = IFF_UP;
	number(IFLA_MASTER, 0);
	number(IFLA_GROUP, DOOMED);
	end();
	deliver(route);
}

static void remove_doomed(void)
{
	link_message(RTM_DELLINK, 0, 0);
	number(IFLA_GROUP, DOOMED);
	end();
	deliver(route);
}

static void attach(char **word)
{
	char path[64], value[64];
	long long t[6];
	t[0] = now();
	snprintf(path, sizeof path, "/proc/%s/ns/net", word[1]);
	int netns = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(netns);
	make_pin(word[2], netns);
	t[1] = now();
	int index = make_link(word[1], word[5], netns);
	t[2] = now();
	make_guard(index, word[3], word[5]);
	t[3] = now();
	set_link_up(index, word[2], word[3], word[5]);
	long long up = now() - t[3];
	fill_inside(netns, word[3], atoi(word[4]));
	see_carriers(word[1]);
	t[4] = now();
	snprintf(value, sizeof value, " : %s . 80", word[3]);
	rules("add", word[6], value);
	close(netns);
	t[5] = now();
	printf("%lld %lld %lld %lld %lld %lld\n", t[5] - t[0], t[1] - t[0], t[2] - t[1] + up,
	       t[3] - t[2], t[4] - t[3] - up, t[5] - t[4]);
}

static void detach(char **word)
{
	long long t[5];
	t[0] = now();
	rules("destroy", word[3], "");
	t[1] = now();
	cut_off(ask_link(word[1]));
	t[2] = now();
	remove_pin(word[2]);
	t[3] = now();
	remove_doomed();
	t[4] = now();
	printf("%lld %lld %lld %lld %lld\n", t[3] - t[0], t[1] - t[0], t[2] - t[1], t[3] - t[2],
	       t[4] - t[3]);
}

int main(int count, char **argument)
{
	char line[1024], *word[8];
	if (count < 2)
		return 2;
	pins = argument[1];
	bridge_name = argument[2];
	if (count > 2 && !(bridge = if_nametoindex(bridge_name)))
		die(bridge_name);
	CHECK(home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
	route = netlink();
	nft = nft_ctx_new(NFT_CTX_DEFAULT);
	nft_ctx_buffer_output(nft);
	nft_ctx_buffer_error(nft);
	setlinebuf(stdout);
	while (fgets(line, sizeof line, stdin)) {
		int words = 0;
		for (char *at = strtok(line, " \n"); at && words < 8; at = strtok(NULL, " \n"))
			word[words++] = at;
		if (words == 7 && !strcmp(word[0], "attach"))
			attach(word);
		else if (words == 4 && !strcmp(word[0], "detach"))
			detach(word);
		else if (words == 2 && !strcmp(word[0], "nft") && !nft_run_cmd_from_filename(nft, word[1]))
			puts("ok");
		else
			die(words ? word[0] : "no command");
	}
	return 0;
}
