"""Run the demo: `python -m ft_tools.demo`."""

from ft_tools.demo.walk import main

if __name__ == "__main__":
    main()
