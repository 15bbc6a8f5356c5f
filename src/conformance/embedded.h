// Files that the build puts into the program: it needs nothing beside it.
#pragma once

#include <string_view>

namespace crisp::conformance::embedded {

std::string_view CriDescriptors();
std::string_view NriDescriptors();
std::string_view TtrpcDescriptors();
std::string_view Guest();           // the static program of our images, guest.cc
std::string_view ReportTemplate();  // report.html

}  // namespace crisp::conformance::embedded
