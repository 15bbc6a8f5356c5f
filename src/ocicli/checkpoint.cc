// checkpoint, restore: by criu.
#include "ocicli/commands.h"

namespace crisp::ocicli {

std::vector<Command> CheckpointCommands() { return {}; }

}  // namespace crisp::ocicli
