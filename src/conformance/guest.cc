// The program inside our images: one static file with the few things that busybox cannot do, or not exactly.
//   guest http PORT [TEXT]     answers each connection with HTTP 200 and TEXT
//   guest get ADDRESS PORT     one HTTP request; says the body
//   guest ids                  uid euid gid egid, then the supplementary groups
//   guest hold                 waits for ever; SIGTERM ends it with code 0
//   guest eat MEGABYTES        allocates and touches, says "eaten", holds
//   guest spin MILLISECONDS    burns processor time, says "spun"
//   guest lines COUNT BYTES    numbered lines as fast as stdout takes them
//   guest hostname NAME        sethostname, then says the name
//   guest signals              says the number of each signal that comes, until SIGINT
//   guest echo                 copies stdin to stdout until its end, then says "end"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

void Say(const char* text) { (void)!write(STDOUT_FILENO, text, strlen(text)); }

int Fail(const char* what) {
  std::fprintf(stderr, "%s: %s\n", what, strerror(errno));
  return 1;
}

int Hold() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  int signal = 0;
  sigwait(&set, &signal);
  return 0;
}

int Http(int port, const char* text) {
  signal(SIGTERM, [](int) { _exit(0); });
  signal(SIGPIPE, SIG_IGN);
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<unsigned short>(port));
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(listener, 64) != 0) {
    return Fail("listen");
  }
  Say("serving\n");
  char answer[1024];
  int size =
      std::snprintf(answer, sizeof answer,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                    strlen(text), text);
  while (true) {
    int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) continue;
    char request[4096];
    (void)!read(fd, request, sizeof request);
    (void)!write(fd, answer, static_cast<size_t>(size));
    shutdown(fd, SHUT_WR);
    while (read(fd, request, sizeof request) > 0) {
    }
    close(fd);
  }
}

int Get(const char* host, int port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<unsigned short>(port));
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) return Fail(host);
  alarm(10);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return Fail("connect");
  const char request[] = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  (void)!write(fd, request, sizeof request - 1);
  static char answer[64 << 10];
  size_t size = 0;
  for (ssize_t got; size + 1 < sizeof answer && (got = read(fd, answer + size, sizeof answer - 1 - size)) > 0;) {
    size += static_cast<size_t>(got);
  }
  const char* body = strstr(answer, "\r\n\r\n");
  if (body == nullptr) return Fail("no answer");
  Say(body + 4);
  return 0;
}

int Ids() {
  gid_t groups[256];
  int count = getgroups(256, groups);
  std::printf("uid=%u euid=%u gid=%u egid=%u groups=", getuid(), geteuid(), getgid(), getegid());
  for (int i = 0; i < count; ++i) std::printf("%s%u", i > 0 ? "," : "", groups[i]);
  std::printf("\n");
  return 0;
}

int Eat(size_t megabytes) {
  size_t bytes = megabytes << 20;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Fail("mmap");
  memset(memory, 1, bytes);
  Say("eaten\n");
  return Hold();
}

int Spin(long milliseconds) {
  timespec used{};
  do {
    for (int i = 0; i < 100000; ++i) {
      __asm__ volatile("");
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  } while (used.tv_sec * 1000 + used.tv_nsec / 1000000 < milliseconds);
  Say("spun\n");
  return 0;
}

int Lines(int count, int bytes) {
  for (int i = 0; i < count; ++i) {
    int written = std::printf("%08d ", i);
    for (int k = written; k < bytes; ++k) std::putchar('x');
    std::putchar('\n');
  }
  return 0;
}

int HostName(const char* name) {
  if (sethostname(name, strlen(name)) != 0) return Fail("sethostname");
  std::printf("%s\n", name);
  return 0;
}

int Signals() {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, nullptr);
  Say("ready\n");
  int got = 0;
  while (got != SIGINT) {
    sigwait(&all, &got);
    std::printf("signal %d\n", got);
    std::fflush(stdout);
    if (got == SIGUSR1) return 0;
  }
  return 0;
}

int Echo() {
  char buffer[4096];
  ssize_t got;
  while ((got = read(STDIN_FILENO, buffer, sizeof buffer)) > 0)
    (void)!write(STDOUT_FILENO, buffer, static_cast<size_t>(got));
  Say("end\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "hold";
  auto number = [&](int index, int fallback) { return argc > index ? std::atoi(argv[index]) : fallback; };
  if (strcmp(what, "http") == 0) return Http(number(2, 80), argc > 3 ? argv[3] : "crisptest web\n");
  if (strcmp(what, "get") == 0) return Get(argc > 2 ? argv[2] : "127.0.0.1", number(3, 80));
  if (strcmp(what, "ids") == 0) return Ids();
  if (strcmp(what, "hold") == 0) return Hold();
  if (strcmp(what, "eat") == 0) return Eat(static_cast<size_t>(number(2, 1)));
  if (strcmp(what, "spin") == 0) return Spin(number(2, 100));
  if (strcmp(what, "lines") == 0) return Lines(number(2, 10), number(3, 80));
  if (strcmp(what, "hostname") == 0) return HostName(argc > 2 ? argv[2] : "changed");
  if (strcmp(what, "signals") == 0) return Signals();
  if (strcmp(what, "echo") == 0) return Echo();
  std::fprintf(stderr, "guest: what is %s?\n", what);
  return 2;
}
