"""What the skill should lead an agent to do, and a checker of the calls it made."""
