// listbench: what lists of a big node cost.
//
//   listbench make DIR PODS CONTAINERS    records of so many pods and ended containers, as a crispd with root_dir = DIR
//                                         finds them when it starts
//   listbench ask ENDPOINT PID METHOD N PAUSE
//                                         calls METHOD (ListContainers, StreamContainers, …) N times, PAUSE seconds
//                                         apart, without looking at what comes, and prints JSON: milliseconds, bytes,
//                                         processor time of PID
//
// bench/lists uses both.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "base/strings.h"
#include "pod/record.h"
#include "state/database.h"

namespace {

using namespace crisp;

[[noreturn]] void Die(const std::string& message) {
  std::cerr << "listbench: " << message << "\n";
  std::exit(1);
}

// ---- make ----

// As the kubelet labels them.
spec::StringMap Labels(int pod, const char* container) {
  spec::StringMap labels = {{"app.kubernetes.io/name", "web"},
                            {"io.kubernetes.pod.name", StrCat("web-7d9f8b6c5d-", pod)},
                            {"io.kubernetes.pod.namespace", "default"},
                            {"io.kubernetes.pod.uid", StrCat("12345678-9abc-def0-1234-", 100'000'000'000 + pod)}};
  if (container != nullptr) labels["io.kubernetes.container.name"] = container;
  return labels;
}

pod::PodRecord MakePod(int number) {
  pod::PodRecord pod;
  pod.id = PodId::Random();
  pod.config.metadata = {.name = StrCat("web-7d9f8b6c5d-", number),
                         .uid = StrCat("12345678-9abc-def0-1234-", 100'000'000'000 + number),
                         .pod_namespace = "default",
                         .attempt = 0};
  pod.config.labels = Labels(number, nullptr);
  pod.config.annotations = {{"kubernetes.io/config.seen", "2026-01-02T15:04:05.123456789Z"},
                            {"kubernetes.io/config.source", "api"}};
  pod.phase = pod::PodPhase::kStopped;
  pod.made = true;
  pod.created_at = 1'700'000'000'000'000'000 + number;
  pod.handler = "runc";
  return pod;
}

pod::ContainerRecord MakeContainer(const pod::PodRecord& pod, int pod_number, uint32_t attempt) {
  pod::ContainerRecord container;
  container.id = ContainerId::Random();
  container.pod = pod.id;
  container.config.metadata = {.name = "web", .attempt = attempt};
  container.config.image = container.image_id = "sha256:" + std::string(64, 'a');
  container.config.user_specified_image = "registry.example/team/web:v1.2.3";
  container.config.labels = Labels(pod_number, "web");
  container.config.annotations = {{"io.kubernetes.container.hash", "3f1e8c2a"},
                                  {"io.kubernetes.container.restartCount", StrCat(attempt)},
                                  {"io.kubernetes.container.terminationMessagePath", "/dev/termination-log"},
                                  {"io.kubernetes.container.terminationMessagePolicy", "File"},
                                  {"io.kubernetes.pod.terminationGracePeriod", "30"}};
  container.made = container.runtime_clean = true;
  container.created_at = container.start_asked_at = container.started_at = pod.created_at + 1;
  container.finished_at = pod.created_at + 2;
  container.handler = "runc";
  container.reason = "Completed";
  return container;
}

int Make(const std::string& dir, int pods, int containers) {
  mkdir(dir.c_str(), 0700);
  auto db = state::Database::Open(dir + "/crisp.db");
  if (!db) Die(db.error().message());
  std::vector<pod::PodRecord> made;
  state::Batch batch;
  for (int i = 0; i < pods; ++i) {
    made.push_back(MakePod(i));
    batch.Put(pod::kPodTable, made.back().id.str(), pod::kRecordVersion, pod::EncodeRecord(made.back()));
  }
  for (int i = 0; i < containers; ++i) {
    pod::ContainerRecord container =
        MakeContainer(made[static_cast<size_t>(i % pods)], i % pods, static_cast<uint32_t>(i / pods));
    batch.Put(pod::kContainerTable, container.id.str(), pod::kRecordVersion, pod::EncodeRecord(container));
  }
  Result<> done = (*db)->Apply(batch, state::Durability::kProcess);
  if (!done) Die(done.error().message());
  return 0;
}

// ---- ask ----

double CpuMillis(int pid) {
  std::ifstream file(StrCat("/proc/", pid, "/stat"));
  std::string text((std::istreambuf_iterator<char>(file)), {});
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;
  double user = 0, system = 0;
  fields >> user >> system;
  return (user + system) * 1000 / static_cast<double>(sysconf(_SC_CLK_TCK));
}

// One call to its end; the bytes that came.
size_t CallOnce(grpc::GenericStub& stub, const std::string& method) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  grpc::CompletionQueue queue;
  void* tag = nullptr;
  bool ok = false;
  auto next = [&] { return queue.Next(&tag, &ok) && ok; };
  const char* service = method == "StreamImages" || method == "ListImages" ? "ImageService" : "RuntimeService";
  auto call = stub.PrepareCall(&context, StrCat("/runtime.v1.", service, "/", method), &queue);
  call->StartCall(nullptr);
  if (!next()) Die("no connection");
  grpc::ByteBuffer empty{nullptr, 0};
  call->WriteLast(empty, {}, nullptr);
  if (!next()) Die("the request was not taken");
  size_t bytes = 0;
  while (true) {
    grpc::ByteBuffer message;
    call->Read(&message, nullptr);
    if (!next()) break;
    bytes += message.Length();
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  next();
  if (!status.ok()) Die(status.error_message());
  return bytes;
}

int Ask(const std::string& endpoint, int pid, const std::string& method, int calls, double pause) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  grpc::GenericStub stub(grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(), arguments));
  size_t bytes = CallOnce(stub, method);  // the first also makes the connection
  std::vector<double> millis;
  double cpu = CpuMillis(pid);
  for (int i = 0; i < calls; ++i) {
    usleep(static_cast<useconds_t>(pause * 1e6));
    auto began = std::chrono::steady_clock::now();
    bytes = CallOnce(stub, method);
    millis.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count());
  }
  cpu = (CpuMillis(pid) - cpu) / calls;
  std::sort(millis.begin(), millis.end());
  std::cout << "{\"method\": \"" << method << "\", \"bytes\": " << bytes << ", \"min_ms\": " << millis.front()
            << ", \"p50_ms\": " << millis[millis.size() / 2] << ", \"max_ms\": " << millis.back()
            << ", \"cpu_ms\": " << cpu << "}\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  auto number = [&](size_t at) { return std::atoi(words[at].c_str()); };
  if (words.size() == 4 && words[0] == "make") return Make(words[1], number(2), number(3));
  if (words.size() == 6 && words[0] == "ask") {
    return Ask(words[1], number(2), words[3], number(4), std::atof(words[5].c_str()));
  }
  Die("usage: listbench make DIR PODS CONTAINERS | ask ENDPOINT PID METHOD CALLS PAUSE");
}
