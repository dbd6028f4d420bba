from .config import TrainConfig as TrainConfig
from .config import load_train_config as load_train_config
from .doctor import ready_phases as ready_phases
from .step import prepare as prepare
from .trainer import Trainer as Trainer
