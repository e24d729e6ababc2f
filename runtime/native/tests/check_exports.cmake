# The library exports the functions of the checked-in list, and nothing else.
execute_process(COMMAND ${NM} -D --defined-only ${LIBRARY} OUTPUT_VARIABLE symbols
                COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^ \n]+\n" found "${symbols}")
list(SORT found)
string(REPLACE ";" "" found "${found}")
file(READ ${LIST} expected)
if(NOT found STREQUAL expected)
  message(FATAL_ERROR "The library exports\n${found}and should export\n${expected}")
endif()
