#include <optional>

#include "base/strings.h"
#include "ctl/go_template_nodes.h"

namespace crisp::ctl::go_template {
namespace {

constexpr int kDepthMax = 64;

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool IsWord(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

Error Bad(std::string_view what) { return Error(Code::kInvalidArgument, StrCat("template: ", what)); }

// One piece of the template: text, or what stands between {{ and }}.
struct Piece {
  bool action = false;
  std::string_view text;
};

// The end of an action: "}}" outside of quotes. npos: there is none.
size_t ActionEnd(std::string_view text, size_t at) {
  for (char quote = '\0'; at < text.size(); ++at) {
    char c = text[at];
    if (quote != '\0') {
      if (c == '\\' && quote != '`') {
        ++at;
      } else if (c == quote) {
        quote = '\0';
      }
    } else if (c == '"' || c == '`' || c == '\'') {
      quote = c;
    } else if (text.substr(at, 2) == "}}") {
      return at;
    }
  }
  return std::string_view::npos;
}

Result<std::vector<Piece>> Cut(std::string_view text) {
  std::vector<Piece> pieces;
  bool trim_next = false;
  while (true) {
    size_t open = text.find("{{");
    std::string_view plain = text.substr(0, open);
    if (trim_next) {
      while (!plain.empty() && IsBlank(plain.front())) plain.remove_prefix(1);
    }
    if (open == std::string_view::npos) {
      if (!plain.empty()) pieces.push_back({false, plain});
      return pieces;
    }
    std::string_view rest = text.substr(open + 2);
    bool trim_before = rest.size() > 1 && rest[0] == '-' && IsBlank(rest[1]);
    if (trim_before) rest.remove_prefix(2);
    if (trim_before) {
      while (!plain.empty() && IsBlank(plain.back())) plain.remove_suffix(1);
    }
    if (!plain.empty()) pieces.push_back({false, plain});
    std::string_view begin = Trim(rest);
    size_t close;
    if (begin.starts_with("/*")) {
      close = rest.find("*/");
      close = close == std::string_view::npos ? close : rest.find("}}", close);
    } else {
      close = ActionEnd(rest, 0);
    }
    if (close == std::string_view::npos) return Bad("an action is not closed by }}");
    std::string_view inside = rest.substr(0, close);
    trim_next = inside.size() > 1 && inside.back() == '-' && IsBlank(inside[inside.size() - 2]);
    if (trim_next) inside.remove_suffix(2);
    if (!begin.starts_with("/*")) pieces.push_back({true, Trim(inside)});
    text = rest.substr(close + 2);
  }
}

// Reads one action's words.
class Words {
 public:
  explicit Words(std::string_view text) : text_(text) {}

  Result<Pipeline> ReadPipeline(char until, int depth) {
    if (depth > kDepthMax) return Bad("parentheses too deep");
    Pipeline pipeline;
    TRY(ReadVariables(pipeline));
    Command command;
    while (true) {
      SkipBlanks();
      bool ends = text_.empty() ? until == '\0' : text_.front() == until;
      if (text_.empty() && !ends) return Bad("a parenthesis is not closed");
      if (!ends && text_.front() != '|') {
        command.push_back(TRY(ReadOperand(depth)));
        continue;
      }
      if (command.empty()) return Bad("a command is missing");
      pipeline.commands.push_back(std::move(command));
      command = Command();
      if (!text_.empty()) text_.remove_prefix(1);
      if (ends) return pipeline;
    }
  }

  std::string_view rest() const { return text_; }

  Result<std::string> ReadString() {
    SkipBlanks();
    char quote = text_.empty() ? '\0' : text_.front();
    if (quote != '"' && quote != '`') return Bad(StrCat("a quoted name is missing before ", Quote(text_)));
    return ReadQuoted(quote);
  }

 private:
  void SkipBlanks() {
    while (!text_.empty() && IsBlank(text_.front())) text_.remove_prefix(1);
  }
  std::string_view TakeWord() {
    size_t end = 0;
    while (end < text_.size() && IsWord(text_[end])) ++end;
    std::string_view word = text_.substr(0, end);
    text_.remove_prefix(end);
    return word;
  }

  // "$x :=", "$x =", "$i, $e :="; otherwise nothing is taken.
  Result<> ReadVariables(Pipeline& pipeline) {
    std::string_view before = text_;
    std::vector<std::string> names;
    while (true) {
      SkipBlanks();
      if (text_.empty() || text_.front() != '$') break;
      text_.remove_prefix(1);
      names.push_back(StrCat("$", TakeWord()));
      SkipBlanks();
      if (text_.empty() || text_.front() != ',') break;
      text_.remove_prefix(1);
    }
    bool declares = text_.starts_with(":=");
    bool assigns = text_.starts_with("=");
    if (names.empty() || (!declares && !assigns)) {
      text_ = before;
      return {};
    }
    if (names.size() > 2) return Bad("too many variables");
    text_.remove_prefix(declares ? 2 : 1);
    pipeline.variables = std::move(names);
    pipeline.assigns = assigns;
    return {};
  }

  Result<Operand> ReadOperand(int depth) {
    Operand operand;
    char c = text_.front();
    if (c == '(') {
      text_.remove_prefix(1);
      operand.kind = Operand::Kind::kPipeline;
      operand.pipeline = TRY(ReadPipeline(')', depth + 1));
    } else if (c == '.') {
      operand.kind = Operand::Kind::kDot;
      if (text_.size() > 1 && !IsWord(text_[1])) text_.remove_prefix(1);
      if (text_ == ".") text_.remove_prefix(1);
    } else if (c == '$') {
      text_.remove_prefix(1);
      operand.kind = Operand::Kind::kVariable;
      operand.name = StrCat("$", TakeWord());
    } else if (c == '"' || c == '`' || c == '\'') {
      operand.literal = TRY(ReadQuoted(c));
    } else if ((c >= '0' && c <= '9') || c == '-' || c == '+') {
      operand.literal = TRY(ReadNumber());
    } else if (IsWord(c)) {
      SetWord(operand, TakeWord());
    } else {
      return Bad(StrCat("not understood: ", Quote(text_)));
    }
    while (text_.size() > 1 && text_.front() == '.' && IsWord(text_[1])) {
      text_.remove_prefix(1);
      operand.fields.emplace_back(TakeWord());
    }
    return operand;
  }

  static void SetWord(Operand& operand, std::string_view word) {
    if (word == "true" || word == "false") {
      operand.literal = word == "true";
    } else if (word == "nil") {
      operand.kind = Operand::Kind::kNil;
    } else {
      operand.kind = Operand::Kind::kFunction;
      operand.name = word;
    }
  }

  Result<std::string> ReadQuoted(char quote) {
    std::string out;
    for (size_t i = 1; i < text_.size(); ++i) {
      char c = text_[i];
      if (c == quote) {
        text_.remove_prefix(i + 1);
        return out;
      }
      if (c == '\\' && quote != '`' && i + 1 < text_.size()) {
        c = text_[++i];
        c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
      }
      out.push_back(c);
    }
    return Bad("a quote is not closed");
  }

  Result<Json> ReadNumber() {
    size_t end = 1;
    while (end < text_.size() && (IsWord(text_[end]) || text_[end] == '.')) ++end;
    std::string_view word = text_.substr(0, end);
    std::string_view digits = word.starts_with('+') ? word.substr(1) : word;
    auto number = ParseJson(digits, "number");
    if (!number || !number->is_number()) return Bad(StrCat("not a number: ", Quote(word)));
    text_.remove_prefix(end);
    return *std::move(number);
  }

  std::string_view text_;
};

class Parser {
 public:
  explicit Parser(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {}

  Result<std::vector<Node>> All() {
    auto nodes = TRY(Body(0));
    if (at_ < pieces_.size()) return Bad(StrCat("unexpected ", Quote(pieces_[at_].text)));
    return nodes;
  }

 private:
  // Until an "end" or "else", which is left, or the template's end.
  Result<std::vector<Node>> Body(int depth) {
    if (depth > kDepthMax) return Bad("too many blocks inside each other");
    std::vector<Node> nodes;
    for (; at_ < pieces_.size(); ++at_) {
      const Piece& piece = pieces_[at_];
      if (!piece.action) {
        nodes.push_back({.kind = Node::Kind::kText, .text = std::string(piece.text)});
        continue;
      }
      if (piece.text.empty()) return Bad("an action is empty");
      std::string_view word = FirstWord(piece.text);
      if (word == "end" || word == "else") return nodes;
      std::string_view rest = piece.text.substr(word.size());
      nodes.push_back(TRY(Action(piece.text, word, rest, depth)));
    }
    return nodes;
  }

  static std::string_view FirstWord(std::string_view text) {
    size_t end = 0;
    while (end < text.size() && IsWord(text[end])) ++end;
    return text.substr(0, end);
  }

  Result<Node> Action(std::string_view whole, std::string_view word, std::string_view rest, int depth) {
    static constexpr std::pair<std::string_view, Node::Kind> kBlocks[] = {
        {"if", Node::Kind::kIf}, {"with", Node::Kind::kWith}, {"range", Node::Kind::kRange}};
    for (const auto& [name, kind] : kBlocks) {
      if (word == name) return Block(kind, rest, depth);
    }
    if (word == "break" && Trim(rest).empty()) return Node{.kind = Node::Kind::kBreak};
    if (word == "continue" && Trim(rest).empty()) return Node{.kind = Node::Kind::kContinue};
    if (word == "define" || word == "template") return Named(word == "define", rest, depth);
    Words words(whole);
    return Node{.kind = Node::Kind::kAction, .pipeline = TRY(words.ReadPipeline('\0', 0))};
  }

  // At the action that opens it; leaves at_ on its "end".
  Result<Node> Block(Node::Kind kind, std::string_view rest, int depth) {
    Node node{.kind = kind};
    Words words(rest);
    node.pipeline = TRY(words.ReadPipeline('\0', 0));
    ++at_;
    node.body = TRY(Body(depth + 1));
    if (at_ == pieces_.size()) return Bad("an {{end}} is missing");
    if (FirstWord(pieces_[at_].text) == "end") return node;
    std::string_view more = Trim(pieces_[at_].text.substr(4));  // behind "else"
    std::string_view next = FirstWord(more);
    if (more.empty()) {
      ++at_;
      node.otherwise = TRY(Body(depth + 1));
      if (at_ == pieces_.size() || FirstWord(pieces_[at_].text) != "end") return Bad("an {{end}} is missing");
      return node;
    }
    if (next != "if" && next != "with") return Bad(StrCat("unexpected ", Quote(pieces_[at_].text)));
    Node inner = TRY(Block(next == "if" ? Node::Kind::kIf : Node::Kind::kWith, more.substr(next.size()), depth + 1));
    node.otherwise.push_back(std::move(inner));
    return node;
  }

  Result<Node> Named(bool defines, std::string_view rest, int depth) {
    Node node{.kind = defines ? Node::Kind::kDefine : Node::Kind::kTemplate};
    Words words(rest);
    node.text = TRY(words.ReadString());
    if (!defines) {
      if (!Trim(words.rest()).empty()) node.pipeline = TRY(words.ReadPipeline('\0', 0));
      return node;
    }
    ++at_;
    node.body = TRY(Body(depth + 1));
    if (at_ == pieces_.size() || FirstWord(pieces_[at_].text) != "end") return Bad("an {{end}} is missing");
    return node;
  }

  const std::vector<Piece> pieces_;
  size_t at_ = 0;
};

}  // namespace

Result<std::vector<Node>> ParseNodes(std::string_view text) { return Parser(TRY(Cut(text))).All(); }

}  // namespace crisp::ctl::go_template
