# crisp_module(NAME <folder of src/> LAYER <0-6> [SOURCES …] [DEPS <modules>…] [LIBS <targets>…] [TESTS …] [KERNEL_TESTS …])
#
# One module = one folder = one static library crisp_<name>. An include points downwards only: configuring fails when
#   - a module names a dependency of its own layer or above,
#   - a source of the module includes a header of a module that it does not name in DEPS.
# TESTS run without root and network; KERNEL_TESTS want root and make namespaces of their own.
# The layers are listed in ARCHITECTURE.md.
define_property(TARGET PROPERTY CRISP_LAYER BRIEF_DOCS "layer" FULL_DOCS "layer of the module")

function(crisp_check_includes name)
  set(allowed ${name} ${ARGN})
  file(GLOB files ${CMAKE_CURRENT_SOURCE_DIR}/*.cc ${CMAKE_CURRENT_SOURCE_DIR}/*.h
       ${CMAKE_CURRENT_SOURCE_DIR}/*/*.cc ${CMAKE_CURRENT_SOURCE_DIR}/*/*.h)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${files})
  foreach(file ${files})
    file(STRINGS ${file} lines REGEX "^#include \"[a-z_0-9]+/")
    foreach(line ${lines})
      string(REGEX REPLACE "^#include \"([a-z_0-9]+)/.*" "\\1" module "${line}")
      # Generated headers have the same first folder as src/cri but lie elsewhere.
      string(REGEX REPLACE "^#include \"([^\"]+)\".*" "\\1" header "${line}")
      if(EXISTS ${PROJECT_SOURCE_DIR}/src/${header} AND NOT module IN_LIST allowed)
        message(FATAL_ERROR "${file} includes a header of '${module}', which module '${name}' does not name in DEPS")
      endif()
    endforeach()
  endforeach()
endfunction()

function(crisp_check_layers name layer)
  foreach(dep ${ARGN})
    get_property(dep_layer GLOBAL PROPERTY CRISP_LAYER_${dep})
    if(NOT DEFINED dep_layer OR dep_layer STREQUAL "")
      message(FATAL_ERROR "module '${name}' depends on '${dep}', which is not a module below it (src/CMakeLists.txt lists them bottom up)")
    endif()
    if(NOT dep_layer LESS layer)
      message(FATAL_ERROR "module '${name}' (layer ${layer}) must not depend on '${dep}' (layer ${dep_layer}): includes point downwards")
    endif()
  endforeach()
endfunction()

# crisp_precompile(<target> <headers>…): headers from outside that nearly every source of the target
# includes, and that cost seconds of compiling each time. A source still includes what it uses: the `ci` preset builds
# without any of this.
function(crisp_precompile target)
  if(CRISP_PRECOMPILE)
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()

# crisp_batches(<target> [<sources at once>]): compiles the sources of the target together, a few at once. What their
# headers define inline is then compiled once for each batch, and not for each source: half of the time or less where
# headers outweigh sources (CLI11, GoogleMock). The names in their anonymous namespaces must differ, also those of
# functions with other parameters; that one lost all its calls to another file's is an error. Not for the modules of
# crispd, where it saves little and nobody would see such a mistake. The `dev`, `ci` and `fuzz` presets build without it.
function(crisp_batches target)
  if(NOT CRISP_BATCHES)
    return()
  endif()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON)
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Werror=unused-function>)
  if(ARGC GREATER 1)
    set_target_properties(${target} PROPERTIES UNITY_BUILD_BATCH_SIZE ${ARGV1})
  endif()
endfunction()

# A test program, by its name, of GoogleTest: what is in it need not be fast.
function(crisp_test_program target)
  target_link_libraries(${target} PRIVATE crisp_options GTest::gmock_main)
  target_compile_definitions(${target} PRIVATE CRISP_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  # -Ulinux as with CRI's messages (api/CMakeLists.txt): the precompiled headers are for tests with and without them.
  target_compile_options(${target} PRIVATE -Ulinux $<$<CONFIG:Release>:-O1>)
  get_property(first GLOBAL PROPERTY CRISP_FIRST_TEST)
  if(NOT first)
    set_property(GLOBAL PROPERTY CRISP_FIRST_TEST ${target})
    crisp_precompile(${target} <gmock/gmock.h> <nlohmann/json.hpp>)
  elseif(CRISP_PRECOMPILE)
    target_precompile_headers(${target} REUSE_FROM ${first})
  endif()
  crisp_batches(${target} 4)
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  add_test(NAME ${target} COMMAND ${target} --gtest_output=xml:${PROJECT_BINARY_DIR}/test-results/${target}.xml)
endfunction()

function(crisp_module)
  cmake_parse_arguments(M "" "NAME;LAYER" "SOURCES;DEPS;LIBS;TESTS;KERNEL_TESTS;TEST_LIBS" ${ARGN})
  crisp_check_layers(${M_NAME} ${M_LAYER} ${M_DEPS})
  crisp_check_includes(${M_NAME} ${M_DEPS})
  set_property(GLOBAL PROPERTY CRISP_LAYER_${M_NAME} ${M_LAYER})
  list(TRANSFORM M_DEPS PREPEND crisp_ OUTPUT_VARIABLE deps)
  if(M_SOURCES)
    add_library(crisp_${M_NAME} STATIC ${M_SOURCES})
    target_link_libraries(crisp_${M_NAME} PUBLIC crisp_options ${deps} ${M_LIBS})
    # -iquote, not -I: <sys/mount.h> and <sys/file.h> are the system's, "sys/file.h" is ours.
    target_compile_options(crisp_${M_NAME} PUBLIC "SHELL:-iquote ${PROJECT_SOURCE_DIR}/src")
  else()
    add_library(crisp_${M_NAME} INTERFACE)
    target_link_libraries(crisp_${M_NAME} INTERFACE ${deps} ${M_LIBS})
    target_compile_options(crisp_${M_NAME} INTERFACE "SHELL:-iquote ${PROJECT_SOURCE_DIR}/src")
  endif()
  if(NOT CRISP_BUILD_TESTS)
    return()
  endif()
  foreach(kind TESTS KERNEL_TESTS)
    if(M_${kind})
      string(TOLOWER ${kind} suffix)
      string(REPLACE "tests" "test" suffix ${suffix})
      set(target ${M_NAME}_${suffix})
      add_executable(${target} ${M_${kind}})
      target_link_libraries(${target} PRIVATE crisp_${M_NAME} ${M_TEST_LIBS})
      crisp_test_program(${target})
      if(kind STREQUAL KERNEL_TESTS)
        set_tests_properties(${target} PROPERTIES LABELS kernel TIMEOUT 300)
      else()
        set_tests_properties(${target} PROPERTIES LABELS unit TIMEOUT 120)
      endif()
    endif()
  endforeach()
endfunction()
