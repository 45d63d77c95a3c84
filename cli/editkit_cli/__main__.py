from editkit_cli.main import main

main()
