// podbench: how long a CRI runtime takes for pods, and how much memory it keeps for them. Works on any CRI endpoint.
//
//   podbench --endpoint unix:///run/x.sock --image REF [--handler H] [--cgroup-parent P] [--host-network]
//            [--pid pod|container] [--lives N] [--parallel 1,8] [--density N] [--scale N [--keep]] [--probes N]
//            [--daemon-pid PID] [--helper NAME,NAME] > result.json
//
// Phases: pull; lives (one pod after the other: every call timed by itself); parallel lives; density (N pods at once:
// lists, statuses, memory of the daemon and of the helper processes that the runtime keeps per pod); scale (N pods one
// after the other: the first hundred starts against the last, lists and stats, memory). --probes: with the pods of scale,
// N ExecSyncs of /bin/true each second for ten seconds, and the processor time that they take. All times are wall-clock
// milliseconds seen by the client. Ends with everything removed, but for --keep, which leaves the pods of scale.
#include <dirent.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "cri/v1/api.grpc.pb.h"

namespace {

namespace cri = runtime::v1;
using Clock = std::chrono::steady_clock;

struct Options {
  std::string endpoint, image, handler, cgroup_parent;
  cri::NamespaceMode pid = cri::POD;  // CRI's default; kubelets ask for CONTAINER unless a pod shares its processes
  std::vector<std::string> helpers{"crisp-shim", "crisp-init", "containerd-shim", "conmon", "pause"};
  std::vector<int> parallel{1, 8};
  int lives = 50, density = 100, scale = 0, probes = 0, daemon_pid = 0;
  bool host_network = false, keep = false;
};

[[noreturn]] void Die(const std::string& message) {
  std::cerr << "podbench: " << message << "\n";
  std::exit(1);
}

class Samples {
 public:
  void Add(const std::string& what, double milliseconds) {
    std::lock_guard lock(mutex_);
    by_call_[what].push_back(milliseconds);
  }
  std::string Json() {
    std::ostringstream out;
    out << "{";
    bool first = true;
    for (auto& [what, values] : by_call_) {
      std::sort(values.begin(), values.end());
      auto at = [&values](double q) { return values[std::min(values.size() - 1, static_cast<size_t>(q * static_cast<double>(values.size())))]; };
      out << (first ? "" : ",") << "\"" << what << "\":{\"n\":" << values.size() << ",\"min\":" << values.front()
          << ",\"p50\":" << at(0.5) << ",\"p99\":" << at(0.99) << ",\"max\":" << values.back() << "}";
      first = false;
    }
    out << "}";
    return out.str();
  }

 private:
  std::mutex mutex_;  // guards by_call_
  std::map<std::string, std::vector<double>> by_call_;
};

double Since(Clock::time_point begin) { return std::chrono::duration<double, std::milli>(Clock::now() - begin).count(); }

class Client {
 public:
  explicit Client(const Options& options) : options_(options) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(64 << 20);
    arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    auto channel = grpc::CreateCustomChannel(options.endpoint, grpc::InsecureChannelCredentials(), arguments);
    runtime_ = cri::RuntimeService::NewStub(channel);
    images_ = cri::ImageService::NewStub(channel);
  }

  struct Pod {
    cri::PodSandboxConfig config;
    std::string id, container;
  };

  template <class Request, class Reply, class Stub>
  Reply Call(Samples* samples, const char* name, Stub&& stub, const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(10));
    Reply reply;
    auto begin = Clock::now();
    grpc::Status status = stub(&context, request, &reply);
    if (!status.ok()) Die(std::string(name) + ": " + status.error_message());
    if (samples != nullptr) samples->Add(name, Since(begin));
    return reply;
  }

#define CALL(samples, service, rpc, request)                                                                     \
  Call<cri::rpc##Request, cri::rpc##Response>(                                                                   \
      samples, #rpc, [this](auto* c, const auto& q, auto* r) { return service->rpc(c, q, r); }, request)

  std::string Pull(Samples* samples) {
    cri::PullImageRequest request;
    request.mutable_image()->set_image(options_.image);
    return CALL(samples, images_, PullImage, request).image_ref();
  }

  Pod Start(Samples* samples, const std::string& name, const std::string& image) {
    Pod pod;
    auto begin = Clock::now();
    auto* metadata = pod.config.mutable_metadata();
    metadata->set_name(name);
    metadata->set_namespace_("bench");
    metadata->set_uid("uid-" + name);
    pod.config.mutable_linux()->set_cgroup_parent(options_.cgroup_parent);
    auto* namespaces = pod.config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
    namespaces->set_pid(options_.pid);
    if (options_.host_network) namespaces->set_network(cri::NODE);
    cri::RunPodSandboxRequest run;
    *run.mutable_config() = pod.config;
    run.set_runtime_handler(options_.handler);
    pod.id = CALL(samples, runtime_, RunPodSandbox, run).pod_sandbox_id();
    cri::CreateContainerRequest create;
    create.set_pod_sandbox_id(pod.id);
    *create.mutable_sandbox_config() = pod.config;
    create.mutable_config()->mutable_metadata()->set_name("main");
    *create.mutable_config()->mutable_linux()->mutable_security_context()->mutable_namespace_options() = *namespaces;
    create.mutable_config()->mutable_image()->set_image(image);
    create.mutable_config()->mutable_image()->set_user_specified_image(options_.image);  // CRI-O wants it, kubelets send it
    create.mutable_config()->add_command("/bin/sleep");
    create.mutable_config()->add_command("100000");
    pod.container = CALL(samples, runtime_, CreateContainer, create).container_id();
    cri::StartContainerRequest start;
    start.set_container_id(pod.container);
    CALL(samples, runtime_, StartContainer, start);
    if (samples != nullptr) samples->Add("pod start", Since(begin));
    return pod;
  }

  void Exec(Samples* samples, const Pod& pod) {
    cri::ExecSyncRequest request;
    request.set_container_id(pod.container);
    request.add_cmd("/bin/true");
    if (CALL(samples, runtime_, ExecSync, request).exit_code() != 0) Die("exec of /bin/true fails");
  }

  void End(Samples* samples, const Pod& pod) {
    auto begin = Clock::now();
    cri::StopContainerRequest stop;
    stop.set_container_id(pod.container);
    CALL(samples, runtime_, StopContainer, stop);
    cri::StopPodSandboxRequest stop_pod;
    stop_pod.set_pod_sandbox_id(pod.id);
    CALL(samples, runtime_, StopPodSandbox, stop_pod);
    cri::RemoveContainerRequest remove;
    remove.set_container_id(pod.container);
    CALL(samples, runtime_, RemoveContainer, remove);
    cri::RemovePodSandboxRequest remove_pod;
    remove_pod.set_pod_sandbox_id(pod.id);
    CALL(samples, runtime_, RemovePodSandbox, remove_pod);
    if (samples != nullptr) samples->Add("pod end", Since(begin));
  }

  void Lists(Samples* samples) {
    CALL(samples, runtime_, ListPodSandbox, cri::ListPodSandboxRequest());
    CALL(samples, runtime_, ListContainers, cri::ListContainersRequest());
  }
  void Stats(Samples* samples) {
    CALL(samples, runtime_, ListPodSandboxStats, cri::ListPodSandboxStatsRequest());
    CALL(samples, runtime_, ListContainerStats, cri::ListContainerStatsRequest());
  }
  int Running() {
    cri::ListContainersRequest request;
    request.mutable_filter()->mutable_state()->set_state(cri::CONTAINER_RUNNING);
    return CALL(nullptr, runtime_, ListContainers, request).containers_size();
  }
#undef CALL

 private:
  const Options& options_;
  std::unique_ptr<cri::RuntimeService::Stub> runtime_;
  std::unique_ptr<cri::ImageService::Stub> images_;
};

// PSS and USS in KiB of one process, from smaps_rollup.
struct Memory {
  long pss = 0, uss = 0, rss = 0, anonymous = 0;
};
Memory MemoryOf(const std::string& pid) {
  Memory memory;
  std::ifstream file("/proc/" + pid + "/smaps_rollup");
  std::string line;
  while (std::getline(file, line)) {
    long value = 0;
    char key[64];
    if (std::sscanf(line.c_str(), "%63[^:]: %ld kB", key, &value) != 2) continue;
    std::string name = key;
    if (name == "Pss") memory.pss += value;
    if (name == "Private_Clean" || name == "Private_Dirty") memory.uss += value;
    if (name == "Rss") memory.rss += value;
    if (name == "Anonymous") memory.anonymous += value;
  }
  return memory;
}

std::set<std::string> ProcessesNamed(const std::vector<std::string>& names) {
  std::set<std::string> pids;
  DIR* proc = opendir("/proc");
  while (dirent* entry = readdir(proc)) {
    std::string pid = entry->d_name, comm;
    std::ifstream file("/proc/" + pid + "/comm");
    if (!std::getline(file, comm)) continue;
    for (const std::string& name : names) {
      if (comm.rfind(name.substr(0, 15), 0) == 0) pids.insert(pid);
    }
  }
  closedir(proc);
  return pids;
}

// ---- processor time, in milliseconds ----

double Ticks(double ticks) { return ticks * 1000 / static_cast<double>(sysconf(_SC_CLK_TCK)); }

// Of a process with all threads it ever had.
double CpuOf(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (text.empty()) return 0;
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0, system = 0;
  fields >> user >> system;
  return Ticks(user + system);
}

// Of processes with one thread each, to the nanosecond: each has used less than a tick.
double CpuOf(const std::set<std::string>& pids) {
  double sum = 0;
  for (const std::string& pid : pids) {
    double nanos = 0;
    std::ifstream("/proc/" + pid + "/schedstat") >> nanos;
    sum += nanos / 1e6;
  }
  return sum;
}

// Of everything on the machine, interrupts included.
double CpuOfAll() {
  std::ifstream file("/proc/stat");
  std::string skipped;
  double sum = 0;
  file >> skipped;
  for (int i = 0; i < 7; ++i) {
    double value = 0;
    file >> value;
    if (i != 3 && i != 4) sum += value;  // idle, waiting for a disk
  }
  return Ticks(sum);
}

std::vector<std::string> SplitList(const std::string& text) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::string key = argv[i];
    if (key == "--host-network") {
      options.host_network = true;
      continue;
    }
    if (key == "--keep") {
      options.keep = true;
      continue;
    }
    if (i + 1 >= argc) Die(key + " wants a value");
    std::string value = argv[++i];
    if (key == "--endpoint") options.endpoint = value;
    else if (key == "--image") options.image = value;
    else if (key == "--handler") options.handler = value;
    else if (key == "--cgroup-parent") options.cgroup_parent = value;
    else if (key == "--pid" && (value == "pod" || value == "container")) options.pid = value == "pod" ? cri::POD : cri::CONTAINER;
    else if (key == "--lives") options.lives = std::atoi(value.c_str());
    else if (key == "--density") options.density = std::atoi(value.c_str());
    else if (key == "--scale") options.scale = std::atoi(value.c_str());
    else if (key == "--probes") options.probes = std::atoi(value.c_str());
    else if (key == "--daemon-pid") options.daemon_pid = std::atoi(value.c_str());
    else if (key == "--helper") options.helpers = SplitList(value);
    else if (key == "--parallel") {
      options.parallel.clear();
      for (const std::string& n : SplitList(value)) options.parallel.push_back(std::atoi(n.c_str()));
    } else Die("unknown option " + key);
  }
  if (options.endpoint.empty() || options.image.empty()) Die("--endpoint and --image are needed");
  return options;
}

// `what` for each of `count`, a few at a time, each worker with a connection of its own.
void InParallel(const Options& options, size_t count, const std::function<void(Client&, size_t)>& what) {
  std::atomic<size_t> next = 0;
  std::vector<std::thread> threads;
  for (int w = 0; w < 4; ++w) {
    threads.emplace_back([&] {
      Client own(options);
      for (size_t i = next++; i < count; i = next++) what(own, i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

std::string MemoryJson(int pid) {
  Memory memory = MemoryOf(std::to_string(pid));
  return "\"daemon_rss_kib\":" + std::to_string(memory.rss) +
         ",\"daemon_anonymous_kib\":" + std::to_string(memory.anonymous);
}

std::string Probes(const Options& options, const std::vector<Client::Pod>& pods) {
  constexpr int kSeconds = 10;
  size_t count = static_cast<size_t>(options.probes) * kSeconds;
  std::set<std::string> helpers = ProcessesNamed(options.helpers);
  Samples samples;
  double all = CpuOfAll(), daemon = CpuOf(options.daemon_pid), helper = CpuOf(helpers), own = CpuOf(getpid());
  auto begin = Clock::now();
  InParallel(options, count, [&](Client& client, size_t i) {
    std::this_thread::sleep_until(begin + std::chrono::nanoseconds(1'000'000'000) * i / options.probes);
    client.Exec(&samples, pods[i % pods.size()]);
  });
  double took = Since(begin);
  auto percent = [&](double millis) { return 100 * millis / took; };  // of one core
  std::ostringstream out;
  out << ",\"probes\":{\"per_second\":" << static_cast<double>(count) * 1000 / took
      << ",\"daemon_percent\":" << percent(CpuOf(options.daemon_pid) - daemon)
      << ",\"helpers_percent\":" << percent(CpuOf(helpers) - helper)
      << ",\"client_percent\":" << percent(CpuOf(getpid()) - own)
      << ",\"machine_percent\":" << percent(CpuOfAll() - all) << ",\"calls\":" << samples.Json() << "}";
  return out.str();
}

std::string Scale(const Options& options, Client& client, const std::string& image) {
  size_t count = static_cast<size_t>(options.scale), some = std::min<size_t>(100, (count + 1) / 2);
  std::vector<Client::Pod> pods;
  Samples first, last;
  for (size_t i = 0; i < count; ++i) {
    Samples* samples = i < some ? &first : i + some >= count ? &last : nullptr;
    pods.push_back(client.Start(samples, "scale-" + std::to_string(i), image));
  }
  std::ostringstream out;
  out << ",\"scale\":{\"pods\":" << count << ",\"running\":" << client.Running();
  if (options.daemon_pid > 0) out << "," << MemoryJson(options.daemon_pid);
  out << ",\"first\":" << first.Json() << ",\"last\":" << last.Json();
  Samples lists, young, anew;
  for (int i = 0; i < 30; ++i) client.Lists(&lists);
  for (int i = 0; i < 30; ++i) client.Stats(&young);
  double cpu = CpuOf(options.daemon_pid);
  for (int i = 0; i < 10; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1'100));  // readings are kept for a second
    client.Stats(&anew);
  }
  out << ",\"lists\":" << lists.Json() << ",\"stats\":" << young.Json() << ",\"stats_read_anew\":" << anew.Json();
  if (options.daemon_pid > 0) out << ",\"cpu_ms_of_both_stats\":" << (CpuOf(options.daemon_pid) - cpu) / 10;
  out << "}";
  if (options.probes > 0) out << Probes(options, pods);
  if (!options.keep) InParallel(options, count, [&](Client& own, size_t i) { own.End(nullptr, pods[i]); });
  return out.str();
}

}  // namespace

int main(int argc, char** argv) {
  Options options = Parse(argc, argv);
  Client client(options);
  std::ostringstream out;
  Samples pull;
  std::string image = client.Pull(&pull);
  out << "{\"pull\":" << pull.Json();
  if (options.daemon_pid > 0) out << ",\"daemon_rss_idle_kib\":" << MemoryOf(std::to_string(options.daemon_pid)).rss;

  if (options.lives > 0) {
    client.End(nullptr, client.Start(nullptr, "warm-up", image));
    Samples serial;
    for (int i = 0; i < options.lives; ++i) {
      Client::Pod pod = client.Start(&serial, "life-" + std::to_string(i), image);
      for (int k = 0; k < 3; ++k) client.Exec(&serial, pod);
      client.End(&serial, pod);
    }
    out << ",\"serial\":" << serial.Json();
    out << ",\"parallel\":{";
    bool first = true;
    for (int workers : options.parallel) {
      std::atomic<int> next = 0;
      Samples samples;
      auto begin = Clock::now();
      std::vector<std::thread> threads;
      for (int w = 0; w < workers; ++w) {
        threads.emplace_back([&] {
          Client own(options);
          for (int i = next++; i < options.lives; i = next++) {
            Client::Pod pod = own.Start(&samples, "par-" + std::to_string(workers) + "-" + std::to_string(i), image);
            for (int k = 0; k < 3; ++k) own.Exec(&samples, pod);
            own.End(&samples, pod);
          }
        });
      }
      for (std::thread& thread : threads) thread.join();
      out << (first ? "" : ",") << "\"" << workers << "\":{\"lives_per_second\":" << 1000.0 * options.lives / Since(begin)
          << ",\"calls\":" << samples.Json() << "}";
      first = false;
    }
    out << "}";
  }

  if (options.density > 0) {
    std::set<std::string> before = ProcessesNamed(options.helpers);
    std::vector<Client::Pod> pods(static_cast<size_t>(options.density));
    auto begin = Clock::now();
    InParallel(options, pods.size(), [&](Client& own, size_t i) {
      pods[i] = own.Start(nullptr, "dense-" + std::to_string(i), image);
    });
    double start_ms = Since(begin);
    Samples lists;
    for (int i = 0; i < 50; ++i) client.Lists(&lists);
    Memory total;
    int processes = 0;
    for (const std::string& pid : ProcessesNamed(options.helpers)) {
      if (before.contains(pid)) continue;
      Memory memory = MemoryOf(pid);
      total.pss += memory.pss;
      total.uss += memory.uss;
      ++processes;
    }
    double n = options.density;
    out << ",\"density\":{\"pods\":" << options.density << ",\"start_all_ms_4_parallel\":" << start_ms
        << ",\"helper_processes\":" << processes << ",\"helper_pss_kib_per_pod\":" << static_cast<double>(total.pss) / n
        << ",\"helper_uss_kib_per_pod\":" << static_cast<double>(total.uss) / n;
    if (options.daemon_pid > 0) out << "," << MemoryJson(options.daemon_pid);
    out << ",\"lists\":" << lists.Json() << "}";
    for (const Client::Pod& pod : pods) client.End(nullptr, pod);
  }
  if (options.scale > 0) out << Scale(options, client, image);
  std::cout << out.str() << "}\n";
  return 0;
}
