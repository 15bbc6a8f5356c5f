#include "ctl/select.h"

#include <algorithm>
#include <optional>
#include <regex>

#include "base/strings.h"
#include "ctl/format.h"
#include "ctl/near.h"

namespace crisp::ctl {

namespace {

// A regular expression or none, which matches everything.
class Pattern {
 public:
  static Result<Pattern> Make(const std::string& text) {
    Pattern pattern;
    if (text.empty()) return pattern;
    try {
      pattern.regex_ = std::regex(text, std::regex::ECMAScript);
    } catch (const std::regex_error&) {
      return Error(Code::kInvalidArgument, StrCat("no regular expression: ", Quote(text)));
    }
    return pattern;
  }
  bool Matches(const std::string& text) const {
    if (!regex_) return true;
    try {
      return std::regex_search(text, *regex_);
    } catch (const std::regex_error&) {  // too complex
      return false;
    }
  }

 private:
  std::optional<std::regex> regex_;
};

Result<> AddLabels(const std::vector<std::string>& labels, google::protobuf::Map<std::string, std::string>& selector) {
  for (const std::string& label : labels) {
    size_t equals = label.find('=');
    if (equals == std::string::npos) return Error(Code::kInvalidArgument, StrCat("no key=value label: ", Quote(label)));
    selector[label.substr(0, equals)] = label.substr(equals + 1);
  }
  return {};
}

bool IsFullId(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

template <class T>
void NewestFirst(std::vector<T>& items) {
  std::stable_sort(items.begin(), items.end(), [](const T& a, const T& b) { return a.created_at() > b.created_at(); });
}

template <class T>
void KeepLast(std::vector<T>& items, const ListFilter& filter) {
  size_t keep = filter.latest ? 1 : filter.last > 0 ? static_cast<size_t>(filter.last) : items.size();
  if (items.size() > keep) items.resize(keep);
}

// Exactly one of `items`: by the beginning of its id, else by its name.
template <class Items>
Result<std::string> FindOne(const Items& items, const std::string& text, std::string_view kind) {
  std::vector<std::string> by_id, by_name;
  for (const auto& item : items) {
    if (item.id().starts_with(text)) by_id.push_back(item.id());
    if (item.metadata().name() == text) by_name.push_back(item.id());
  }
  const auto& found = by_id.empty() ? by_name : by_id;
  if (found.size() == 1) return found[0];
  if (found.empty()) {
    std::vector<std::string> known;
    for (const auto& item : items) {
      known.push_back(item.metadata().name());
      // As much of an id as was given, and what it may look like in a table.
      known.push_back(item.id().substr(0, std::max(text.size(), ShortId(item.id()).size())));
    }
    return Error(Code::kNotFound,
                 StrCat("no ", kind, " has the id or name ", Quote(text), DidYouMean(NearMisses(text, known))));
  }
  std::vector<std::string> which;
  for (const auto& item : items) {
    constexpr size_t kMost = 4;
    if (std::ranges::find(found, item.id()) == found.end() || which.size() > kMost) continue;
    which.push_back(which.size() == kMost ? "…" : StrCat(ShortId(item.id()), " ", item.metadata().name()));
  }
  return Error(Code::kInvalidArgument, StrCat(found.size(), " ", kind, "s have the id or name ", Quote(text), " (",
                                              Join(which, ", "), "): say more of the id"));
}

}  // namespace

Result<cri::PodSandboxFilter> ToPodFilter(const ListFilter& filter) {
  cri::PodSandboxFilter out;
  out.set_id(filter.id);
  TRY(AddLabels(filter.labels, *out.mutable_label_selector()));
  if (filter.state.empty()) return out;
  std::string state = Lower(filter.state);
  if (std::string_view("ready").starts_with(state)) {
    out.mutable_state()->set_state(cri::SANDBOX_READY);
  } else if (std::string_view("notready").starts_with(state)) {
    out.mutable_state()->set_state(cri::SANDBOX_NOTREADY);
  } else {
    return Error(Code::kInvalidArgument, StrCat("unknown pod state ", Quote(filter.state), " (ready, notready)"));
  }
  return out;
}

Result<cri::ContainerFilter> ToContainerFilter(const ListFilter& filter) {
  cri::ContainerFilter out;
  out.set_id(filter.id);
  out.set_pod_sandbox_id(filter.pod);
  TRY(AddLabels(filter.labels, *out.mutable_label_selector()));
  std::string state = Lower(filter.state);
  if (state.empty() && !filter.all && !filter.latest && filter.last == 0) state = "running";
  if (state.empty()) return out;
  static constexpr std::pair<std::string_view, cri::ContainerState> kStates[] = {{"created", cri::CONTAINER_CREATED},
                                                                                 {"running", cri::CONTAINER_RUNNING},
                                                                                 {"exited", cri::CONTAINER_EXITED},
                                                                                 {"unknown", cri::CONTAINER_UNKNOWN}};
  for (const auto& [name, value] : kStates) {
    if (!name.starts_with(state)) continue;
    out.mutable_state()->set_state(value);
    return out;
  }
  return Error(Code::kInvalidArgument,
               StrCat("unknown container state ", Quote(state), " (created, running, exited, unknown)"));
}

Result<std::vector<cri::PodSandbox>> SelectPods(const cri::ListPodSandboxResponse& list, const ListFilter& filter) {
  Pattern name = TRY(Pattern::Make(filter.name));
  Pattern pod_namespace = TRY(Pattern::Make(filter.pod_namespace));
  std::vector<cri::PodSandbox> selected;
  for (const cri::PodSandbox& pod : list.items()) {
    if (name.Matches(pod.metadata().name()) && pod_namespace.Matches(pod.metadata().namespace_()))
      selected.push_back(pod);
  }
  NewestFirst(selected);
  KeepLast(selected, filter);
  return selected;
}

Result<std::vector<cri::Container>> SelectContainers(const cri::ListContainersResponse& list, const ListFilter& filter,
                                                     const std::map<std::string, std::string>& namespaces) {
  Pattern name = TRY(Pattern::Make(filter.name));
  Pattern pod_namespace = TRY(Pattern::Make(filter.pod_namespace));
  std::vector<cri::Container> selected;
  for (const cri::Container& container : list.containers()) {
    auto found = namespaces.find(container.pod_sandbox_id());
    if (!name.Matches(container.metadata().name())) continue;
    if (!pod_namespace.Matches(found == namespaces.end() ? "" : found->second)) continue;
    if (!filter.image.empty() && container.image().image().find(filter.image) == std::string::npos &&
        container.image_ref().find(filter.image) == std::string::npos) {
      continue;
    }
    selected.push_back(container);
  }
  NewestFirst(selected);
  KeepLast(selected, filter);
  return selected;
}

Result<std::vector<cri::PodSandbox>> ListPods(Client& client, const ListFilter& filter) {
  cri::ListPodSandboxRequest request;
  *request.mutable_filter() = TRY(ToPodFilter(filter));
  auto list = TRY(client.Call(&Client::Runtime::ListPodSandbox, request));
  return SelectPods(list, filter);
}

Result<std::vector<cri::Container>> ListContainers(Client& client, const ListFilter& filter) {
  ListFilter wanted = filter;
  if (!filter.pod.empty()) wanted.pod = TRY(FindPod(client, filter.pod));
  cri::ListContainersRequest request;
  *request.mutable_filter() = TRY(ToContainerFilter(wanted));
  auto list = TRY(client.Call(&Client::Runtime::ListContainers, request));
  std::map<std::string, std::string> namespaces;
  if (!filter.pod_namespace.empty()) {
    auto pods = TRY(client.Call(&Client::Runtime::ListPodSandbox, {}));
    for (const auto& pod : pods.items()) {
      namespaces[pod.id()] = pod.metadata().namespace_();
    }
  }
  return SelectContainers(list, wanted, namespaces);
}

Result<std::string> FindPod(Client& client, const std::string& text) {
  if (IsFullId(text)) return text;
  auto list = TRY(client.Call(&Client::Runtime::ListPodSandbox, {}));
  return FindOne(list.items(), text, "pod");
}

Result<std::string> FindContainer(Client& client, const std::string& text) {
  if (IsFullId(text)) return text;
  auto list = TRY(client.Call(&Client::Runtime::ListContainers, {}));
  auto found = FindOne(list.containers(), text, "container");
  if (found) return found;
  // A name that old attempts have too means the one that runs.
  std::vector<std::string> running;
  for (const auto& container : list.containers()) {
    if (container.metadata().name() == text && container.state() == cri::CONTAINER_RUNNING)
      running.push_back(container.id());
  }
  if (running.size() == 1) return running[0];
  return found;
}

}  // namespace crisp::ctl
