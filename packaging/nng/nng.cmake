# Defines the target sluice_nng: the system's NNG if it has the fixes that Sluice cannot live without (1.9 or later), else
# Debian's 1.5.2 with these fixes, linked statically (build.sh, which is run if the library is missing or out of date).
set(SLUICE_NNG_PREFIX ${CMAKE_SOURCE_DIR}/build/nng CACHE PATH "Where the patched NNG is, or is built")
set(SLUICE_NNG_CMAKE_ARGS "" CACHE STRING "More arguments for its CMake; a prefix of its own goes with them")
option(SLUICE_UNSAFE_NNG "Use the system's NNG, whatever its version (anybody who reaches the gateway can crash it)" OFF)

add_library(sluice_nng INTERFACE)
unset(nng_DIR CACHE) # found anew each time, so that a change of the options counts

if(SLUICE_UNSAFE_NNG)
    find_package(nng 1.0 CONFIG REQUIRED)
    target_compile_definitions(sluice_nng INTERFACE SLUICE_UNSAFE_NNG)
    message(WARNING "Building on the system's NNG ${nng_VERSION}: the gateway will say at every start that it is unsafe")
else()
    find_package(nng 1.9 CONFIG QUIET)
    if(NOT nng_FOUND)
        execute_process(COMMAND ${CMAKE_COMMAND} -E env "SLUICE_NNG_CMAKE_ARGS=${SLUICE_NNG_CMAKE_ARGS}"
            ${CMAKE_CURRENT_LIST_DIR}/build.sh ${SLUICE_NNG_PREFIX} RESULT_VARIABLE failed)
        if(failed)
            message(FATAL_ERROR "The system has no NNG >= 1.9, and the patched one could not be built (the reason is "
                "above). -DSLUICE_UNSAFE_NNG=ON builds on the system's NNG all the same, which strangers can crash.")
        endif()
        file(GLOB patches CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/patches/*.patch)
        set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/build.sh ${patches})
        find_package(nng CONFIG REQUIRED PATHS ${SLUICE_NNG_PREFIX} NO_DEFAULT_PATH)
    endif()
endif()
message(STATUS "NNG ${nng_VERSION} in ${nng_DIR}")

# SYSTEM comes with an imported target: its headers are not held to our warnings, and go before /usr/include.
target_link_libraries(sluice_nng INTERFACE nng::nng)
