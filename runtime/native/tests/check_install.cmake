# Installs the package into a new prefix, and builds consumers of it, by find_package with both
# libraries and by pkg-config, in C89 and C++17; the samples too.
macro(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endmacro()

set(prefix ${WORK}/prefix)
file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run(${CMAKE_COMMAND} -S ${SOURCES}/consumer -B ${WORK}/consumer -D CMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${WORK}/consumer)
run(${WORK}/consumer/consumer_shared)
run(${WORK}/consumer/consumer_static)
run(${WORK}/consumer/consumer_cpp)

get_filename_component(root ${SOURCES}/../../.. ABSOLUTE)
run(${CMAKE_COMMAND} -S ${root}/samples/native -B ${WORK}/samples -D CMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${WORK}/samples)

find_program(pkg_config NAMES pkg-config pkgconf)
if(pkg_config)
  file(GLOB_RECURSE pc ${prefix}/*/effbert.pc)
  execute_process(COMMAND ${pkg_config} --cflags --libs ${pc} OUTPUT_VARIABLE flags
                  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags)
  run(cc -std=c89 -pedantic -Wall -Wextra -Werror ${SOURCES}/consumer/consumer.c ${flags}
      -o ${WORK}/by_pkg_config)
endif()
