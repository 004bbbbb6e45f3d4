# What `cmake --install` puts where (GNUInstallDirs), and the client library as others link it: libsluice.so.0 and
# libsluice.a, which show nothing but the names of proto/client.h.
include(GNUInstallDirs)

# It links Sluice's own layers and, where it is static, NNG; --exclude-libs hides what comes from those.
add_library(sluice_shared SHARED ${CMAKE_SOURCE_DIR}/proto/client.c)
target_compile_options(sluice_shared PRIVATE -fvisibility=hidden)
target_link_libraries(sluice_shared PRIVATE sluice_common sluice_nng)
set_target_properties(sluice_shared PROPERTIES OUTPUT_NAME sluice VERSION ${PROJECT_VERSION} SOVERSION 0
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib
    LINK_OPTIONS "LINKER:-z,relro,-z,now,-z,defs,--as-needed,--exclude-libs,ALL") # not -pie, as for programs

# One object, in which all names but the public ones are local: whoever links it may use another NNG beside it.
get_target_property(nng_type nng::nng TYPE)
if(nng_type STREQUAL "STATIC_LIBRARY")
    set(static_nng $<TARGET_FILE:nng::nng>)
    set(SLUICE_PC_PRIVATE "-lmbedtls -lmbedx509 -lmbedcrypto -luuid -latomic -pthread")
else()
    set(SLUICE_PC_PRIVATE "-lnng -luuid -pthread")
endif()
set(static ${CMAKE_BINARY_DIR}/lib/libsluice.a)
add_custom_command(OUTPUT ${static}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/lib
    COMMAND ${CMAKE_LINKER} -r -o ${CMAKE_BINARY_DIR}/lib/sluice.o --whole-archive $<TARGET_FILE:sluice_client>
        --no-whole-archive $<TARGET_FILE:sluice_common> ${static_nng}
    COMMAND ${CMAKE_OBJCOPY} --wildcard --keep-global-symbol=sluice_* ${CMAKE_BINARY_DIR}/lib/sluice.o
    COMMAND ${CMAKE_COMMAND} -E remove -f ${static}
    COMMAND ${CMAKE_AR} rcs ${static} ${CMAKE_BINARY_DIR}/lib/sluice.o
    DEPENDS sluice_client sluice_common VERBATIM)
add_custom_target(sluice_static ALL DEPENDS ${static})

# All that is installed: the programs, and the library.
add_custom_target(shipped DEPENDS sluice sluice-scheduler sluice-gateway sluice-verify sluice_shared sluice_static)

file(RELATIVE_PATH SLUICE_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${CMAKE_CURRENT_LIST_DIR}/sluice.pc.in ${CMAKE_BINARY_DIR}/sluice.pc @ONLY)

install(TARGETS sluice RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS sluice-scheduler sluice-gateway sluice-verify RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
install(TARGETS sluice_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${static} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${CMAKE_SOURCE_DIR}/proto/client.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/sluice)
install(FILES ${CMAKE_BINARY_DIR}/sluice.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_SOURCE_DIR}/packaging/man/sluice.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
file(GLOB pages CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/packaging/man/*.8)
install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
install(FILES ${CMAKE_SOURCE_DIR}/cli/completion/sluice
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)

# systemd looks below lib/ whatever CMAKE_INSTALL_LIBDIR is. A unit names its program by the prefix of the configuration:
# a package is configured with /usr. The environment files are examples: /etc/sluice is the operator's.
set(unit_dir lib/systemd/system)
if(SLUICE_PACKAGE)
    set(unit_dir /lib/systemd/system) # where Debian 12's own are
endif()
foreach(unit sluice-scheduler.service sluice-gateway.service)
    configure_file(${CMAKE_SOURCE_DIR}/packaging/systemd/${unit}.in ${CMAKE_BINARY_DIR}/systemd/${unit} @ONLY)
    install(FILES ${CMAKE_BINARY_DIR}/systemd/${unit} DESTINATION ${unit_dir})
endforeach()
install(FILES ${CMAKE_SOURCE_DIR}/packaging/systemd/sluice.sysusers DESTINATION lib/sysusers.d RENAME sluice.conf)
install(FILES ${CMAKE_SOURCE_DIR}/packaging/systemd/scheduler.env ${CMAKE_SOURCE_DIR}/packaging/systemd/gateway.env
    DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
