# What Debian wants of the files and `cmake --install` does not do: run by cpack on what it is about to pack.
set(usr ${CPACK_TEMPORARY_DIRECTORY}/usr)
file(GLOB texts ${usr}/share/man/man*/*.[0-9] ${usr}/share/doc/sluice/changelog)
file(GLOB archives ${usr}/lib/*/libsluice.a)
execute_process(COMMAND gzip -9nf ${texts} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND strip --strip-debug --enable-deterministic-archives ${archives} COMMAND_ERROR_IS_FATAL ANY)
